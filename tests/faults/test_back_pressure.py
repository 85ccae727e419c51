"""More comes than can be stored: it is refused, what was accepted drains, and it goes on alone."""

import contextlib
import sqlite3
import subprocess
import sys
import time

import pytest
from disks import SmallDisk
from harness import START_SECONDS, wait_until
from load import depth, wait_accepting

#: Envelopes that the queue may hold, and how many may be on their way when it says that it is full.
MOST = 100
SENDERS = 8

#: A worker that is slow to commit.
STORES_SLOWLY = """
import time
from appliance.cli import main
from appliance.store.sqlite.writer import SqliteWriter
store = SqliteWriter.store
def store_slowly(self, contents, **options):
    time.sleep(0.3)
    store(self, contents, **options)
SqliteWriter.store = store_slowly
main()
"""


def readiness(stack) -> dict:
    return stack.get("/readyz").json()


def wait_reason(stack, words: str) -> None:
    wait_until(
        lambda: any(words in reason for reason in readiness(stack)["reasons"]),
        words,
        60,
        lambda: f"{readiness(stack)}\n{stack.logs()}",
    )


@pytest.mark.slow
def test_a_client_faster_than_the_store_gets_503_and_the_queue_stays_bounded(stack, under_load):
    """Waits until a slow worker has stored what was accepted."""
    small = stack(workers=0, queue_max_envelopes=MOST)
    slow = subprocess.Popen(
        [sys.executable, "-c", STORES_SLOWLY, "worker"],
        env=small.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deepest = 0
    try:
        small.wait_ready()
        with under_load(small, senders=SENDERS, pause=0) as load:
            wait_until(lambda: load.sending.journal.answers[503] >= 50, "refusals", 60, small.logs)
            for _ in range(20):
                deepest = max(deepest, depth(small))
                time.sleep(0.1)
            before = load.sending.journal.accepted
            load.wait_accepted(50)  # it goes on accepting what there is room for
            assert load.sending.journal.accepted > before
        load.verify()
    finally:
        slow.kill()
        slow.wait()
    assert MOST / 2 < deepest < MOST + 10 * SENDERS
    load.note(bound=MOST, deepest=deepest)
    refused = [one for one in load.journal if one.status == 503]
    assert {one.problem for one in refused} == {"refused"}
    assert {one.detail for one in refused} == {"the queue is full; nothing was kept"}
    assert all(int(one.headers["retry-after"]) >= 1 for one in refused)


@pytest.mark.slow
def test_a_store_that_is_locked_fills_the_queue_and_readiness_says_both(stack, under_load):
    """Waits for the worker to find out that it can't store."""
    small = stack(workers=1, queue_max_envelopes=MOST)
    other = sqlite3.connect(small.database, isolation_level=None, timeout=30)
    with contextlib.closing(other), under_load(small, senders=SENDERS) as load:
        other.execute("BEGIN IMMEDIATE")
        wait_reason(small, "the queue is full")
        wait_reason(small, "a worker holds what it can't store: the database can't be written")
        other.execute("ROLLBACK")
        small.wait_ready()
        load.wait_accepted(200)
    load.verify()
    assert small.workers[0].log.count("storing failed") == 1


@pytest.mark.slow
@pytest.mark.parametrize("where", ["data", "broker"])
def test_below_the_floor_of_a_disk_it_refuses_at_once_and_the_worker_drains(
    stack, under_load, where
):
    """Starts RabbitMQ; only the API refuses, so that what was accepted can be stored."""
    tight = stack(workers=1, start=False, min_free_bytes="100MiB")
    disk = SmallDisk(tight.data if where == "data" else tight.data / "broker")
    try:
        tight.start()
        tight.workers[0].stop()
        with under_load(tight, most=25) as load:
            load.join()
        waiting = depth(tight)
        disk.fill(leave=80 * 2**20)
        wait_reason(tight, "must stay free")
        wait_until(lambda: "refusing messages" in tight.api.log, "refusing", more=tight.logs)
        began = time.monotonic()
        answer = tight.publish("refused", b"x")
        assert time.monotonic() - began < 2  # it doesn't wait for the broker
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.json()["type"].endswith(":refused")
        assert "must stay free" in answer.json()["detail"]
        assert waiting > 50
        tight.workers[0].start()
        wait_until(lambda: depth(tight) == 0, "the queue drains meanwhile", 60, tight.logs)
        assert tight.publish("refused", b"x").status_code == 503
        disk.make_room()
        wait_accepting(tight)
        tight.wait_ready()
        load.verify()
        wait_until(
            lambda: tight.publish("refused", b"x").status_code == 202,
            "it accepts again",
            START_SECONDS,
            tight.logs,
        )
    finally:
        tight.close()
        disk.unmount()
    assert tight.api.log.count('"refusing messages"') == 1
