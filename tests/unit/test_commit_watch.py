"""A request that waits for its row is told by the worker, or looks by itself; it ends in time."""

import asyncio
import threading
import time

import pytest
from store_contents import TIME, one

from appliance import config as configuration
from appliance.model.ids import IdSource
from appliance.model.wire import batch
from appliance.store import open_store
from appliance.store.sqlite.writer import SqliteWriter


@pytest.fixture
def config(tmp_path):
    return configuration.load({"APPLIANCE_DATA": str(tmp_path / "data")})


@pytest.fixture
def store(config):
    store = open_store(config)
    store.migrate()
    yield store
    store.reader.close()


@pytest.fixture
def ask(store):
    """Run a coroutine with the store's commits, on a loop of its own."""

    def run(question):
        async def ask():
            try:
                return await question(store.commits)
            finally:
                store.commits.close()

        return asyncio.run(ask())

    return run


@pytest.fixture
def seldom(monkeypatch):
    """Looks so far apart that no test waits for one, but for the first."""
    monkeypatch.setattr("appliance.store.sql.commits.POLL_TOLD", 60)
    monkeypatch.setattr("appliance.store.sqlite.commit_look.SqliteLook.poll", 60)


@pytest.mark.usefixtures("seldom")
def test_a_wait_is_ended_by_what_the_worker_tells(store, ask):
    prefix = IdSource().prefix()
    envelopes = [one(), batch("t", prefix, TIME, [b"a", b"b"]), one()]
    last = [envelopes[0].id, prefix + "00000001", envelopes[2].id]

    async def wait(commits):
        writer = await asyncio.to_thread(store.open_writer)
        for envelope, name in zip(envelopes, last, strict=True):
            waiting = [commits.when_committed(name, 30) for _ in range(3)]
            await asyncio.sleep(0.1)  # the first look is over
            assert not any(each.done() for each in waiting)
            await asyncio.to_thread(writer.store, [envelope])
            assert await asyncio.gather(*waiting) == [True] * 3
        await asyncio.to_thread(writer.close)
        return True

    assert ask(wait)


@pytest.mark.usefixtures("seldom")
def test_a_message_that_was_stored_before_its_request_waits_is_known(store, ask):
    early, late = one(), one()

    async def wait(commits):
        writer = await asyncio.to_thread(store.open_writer)
        open_wait = commits.when_committed(one().id, 30)
        await asyncio.to_thread(writer.store, [early])
        await asyncio.to_thread(writer.store, [late])
        assert await commits.committed(late.id, 30)
        assert commits.when_committed(early.id, 30).result()
        assert not open_wait.done()
        await asyncio.to_thread(writer.close)
        return True

    assert ask(wait)


def test_a_wait_ends_when_a_worker_that_tells_nothing_commits(store, ask):
    async def wait(commits):
        for _ in range(3):
            envelope = one()
            waiting = commits.when_committed(envelope.id, 30)
            await asyncio.sleep(0.05)
            writer = await asyncio.to_thread(SqliteWriter, store.path)
            await asyncio.to_thread(writer.store, [envelope])
            await asyncio.to_thread(writer.close)
            assert await waiting
        return True

    assert ask(wait)


def test_a_message_that_is_waited_for_again_is_found_though_nothing_is_committed(store, ask):
    envelope = one()

    async def wait(commits):
        writer = await asyncio.to_thread(store.open_writer)
        for _ in range(3):
            waiting = commits.when_committed(envelope.id, 30)
            await asyncio.to_thread(writer.store, [envelope])
            assert await waiting
        await asyncio.sleep(1.2)  # what was not told by now is not committed, but for this
        began = time.monotonic()
        assert await commits.committed(envelope.id, 30)
        assert time.monotonic() - began < 15
        await asyncio.to_thread(writer.close)
        return True

    assert ask(wait)


def test_a_wait_that_was_given_up_leaves_nothing(store, ask, config, monkeypatch):
    monkeypatch.setattr("appliance.store.sql.commits._IDLE_SECONDS", 0.2)
    folder = config.run_folder / "commits"

    async def wait(commits):
        given_up = [asyncio.create_task(commits.committed(one().id, 30)) for _ in range(5)]
        await asyncio.sleep(0.05)
        assert len(list(folder.iterdir())) == 1
        for task in given_up:
            task.cancel()
        until = time.monotonic() + 30
        while list(folder.iterdir()):
            assert time.monotonic() < until
            await asyncio.sleep(0.05)
        assert not commits._waiting
        envelope = one()
        waiting = commits.when_committed(envelope.id, 30)
        writer = await asyncio.to_thread(store.open_writer)
        await asyncio.to_thread(writer.store, [envelope])
        await asyncio.to_thread(writer.close)
        return await waiting

    assert ask(wait)
    assert not list(folder.iterdir())


def test_a_wait_is_over_in_time_while_the_disk_hangs(store, ask, monkeypatch):
    going_on = threading.Event()

    async def wait(commits):
        monkeypatch.setattr(commits, "_select", lambda *_, **__: going_on.wait(60) and [])
        began = time.monotonic()
        assert not await commits.committed(one().id, 0.3)
        assert time.monotonic() - began < 30
        going_on.set()
        return True

    assert ask(wait)
