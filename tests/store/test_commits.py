"""Questions of the event loop: whether a message is stored, whether a key was used."""

import asyncio
import threading
import time

import pytest
from store_contents import TIME, lines, one

from appliance.errors import StoreError
from appliance.model.ids import IdSource, key_prefix
from appliance.model.wire import Message, batch, pack


@pytest.fixture
def ask(new_store):
    """Run a coroutine with the store's commits, on a loop of its own."""

    def run(question):
        async def ask():
            try:
                return await question(new_store.commits)
            finally:
                new_store.commits.close()

        return asyncio.run(ask())

    return run


def test_a_message_that_is_stored_is_committed_at_once(writer, ask):
    envelope = one()
    writer.store([envelope])
    began = time.monotonic()
    assert ask(lambda commits: commits.committed(envelope.id, 30))
    assert time.monotonic() - began < 10


def test_a_message_that_is_not_stored_is_not_committed_when_the_time_is_over(store, ask):
    began = time.monotonic()
    assert not ask(lambda commits: commits.committed(one().id, 0.2))
    assert 0.15 < time.monotonic() - began < 10


def test_a_wait_ends_when_another_connection_commits(store, ask):
    """Many wait for their own messages, and one for the same as another."""
    envelopes = [one() for _ in range(20)]

    def write():
        writer = store.open_writer()
        for envelope in envelopes:
            time.sleep(0.01)
            writer.store([envelope])
        writer.close()

    async def wait(commits):
        threading.Thread(target=write).start()
        names = [*(envelope.id for envelope in envelopes), envelopes[0].id]
        return await asyncio.gather(*(commits.committed(name, 30) for name in names))

    assert ask(wait) == [True] * 21


def test_a_wait_that_is_over_leaves_others_waiting(store, ask):
    envelope = one()

    async def wait(commits):
        long = asyncio.create_task(commits.committed(envelope.id, 30))
        assert not await commits.committed(envelope.id, 0.05)
        writer = await asyncio.to_thread(store.open_writer)
        await asyncio.to_thread(writer.store, [envelope])
        await asyncio.to_thread(writer.close)
        return await long

    assert ask(wait)


def test_a_wait_begins_before_the_database_is_made(new_store, ask):
    envelope = one()

    async def wait(commits):
        waiting = asyncio.create_task(commits.committed(envelope.id, 30))
        await asyncio.sleep(0.05)
        await asyncio.to_thread(new_store.migrate)
        writer = await asyncio.to_thread(new_store.open_writer)
        await asyncio.to_thread(writer.store, [envelope])
        await asyncio.to_thread(writer.close)
        return await waiting

    assert ask(wait)


def test_messages_of_a_prefix_come_in_order_up_to_the_limit(writer, ask):
    prefix = key_prefix("t", "key")
    writer.store([lines([b"x"]), batch("t", prefix, TIME, [b"a", b"b", b"c"]), lines([b"y"])])

    async def look(commits):
        return (
            await commits.with_prefix(prefix, 10),
            await commits.with_prefix(prefix, 2),
            await commits.with_prefix(key_prefix("t", "other"), 10),
        )

    found, two, none = ask(look)
    assert [(row.id[-2:], row.received_at, row.body) for row in found] == [
        ("00", TIME, "a"),
        ("01", TIME, "b"),
        ("02", TIME, "c"),
    ]
    assert (two, none) == (found[:2], [])


def test_prefixes_that_are_asked_for_at_once_are_each_told_whether_they_are_used(writer, ask):
    used = [key_prefix("t", f"used {n}") for n in range(30)]
    unused = [key_prefix("t", f"unused {n}") for n in range(700)]
    for prefix in used:
        writer.store([batch("t", prefix, TIME, [b"a", b"b"])])
    # Neighbours in the order of the ids, and a message of which only a later one is there.
    later = key_prefix("t", "later")
    writer.store([pack("t", [Message(later + "ffffffff", TIME, b"x")], 1)])
    neighbours = [prefix[:-1] + chr(ord(prefix[-1]) ^ 1) for prefix in [*used, later]]

    async def look(commits):
        asked = [*used, later, *unused, *neighbours, used[0]]
        return await asyncio.gather(*(commits.is_used(prefix) for prefix in asked))

    answers = ask(look)
    assert answers[: len(used) + 1] == [True] * 31
    assert answers[31:-1] == [False] * (700 + 31)
    assert answers[-1] is True


def test_a_prefix_that_is_asked_for_while_others_are_looked_for_is_told_by_the_next_look(
    writer, ask
):
    prefix = key_prefix("t", "key")

    async def look(commits):
        first = commits.is_used(prefix)
        await asyncio.sleep(0)
        await asyncio.to_thread(writer.store, [batch("t", prefix, TIME, [b"a"])])
        second = commits.is_used(prefix)
        await first
        return await second

    assert ask(look)


def test_bytes_that_are_no_text_come_back_as_bytes(writer, ask):
    prefix = IdSource().prefix()
    writer.store([pack("t", [Message(prefix + "00000000", TIME, b"\xff\0")], 2)])
    (row,) = ask(lambda commits: commits.with_prefix(prefix, 1))
    assert row.body == b"\xff\0"


def test_a_prefix_in_a_database_that_is_not_made_is_a_store_error(new_store, ask):
    with pytest.raises(StoreError):
        ask(lambda commits: commits.with_prefix("x", 1))


def test_all_who_ask_are_told_that_the_database_can_not_be_read(new_store, ask):
    async def look(commits):
        asked = [commits.is_used(prefix) for prefix in ("x", "y")]
        told = await asyncio.gather(*asked, return_exceptions=True)
        await asyncio.to_thread(new_store.migrate)
        return told, await commits.is_used("x")

    told, later = ask(look)
    assert [isinstance(each, StoreError) for each in told] == [True, True]
    assert later is False
