"""Processes that are stopped (SIGSTOP) for a while, under load: they live, and do nothing."""

import sqlite3
import time

import pytest
from harness import START_SECONDS, wait_until
from standstill import frozen


@pytest.mark.parametrize("seconds", [5, pytest.param(90, marks=pytest.mark.long)])
def test_a_broker_that_stands_still_loses_nothing(running, under_load, seconds):
    broker = wait_until(lambda: running.pid("broker"), "it runs", START_SECONDS, running.logs)
    with under_load(running) as load:
        load.wait_accepted(200, START_SECONDS)
        with frozen(broker):
            time.sleep(seconds)
        load.wait_accepted(200, START_SECONDS)
    load.note(restarted=running.pid("broker") != broker)
    load.verify()
    answers = [attempt.seconds for attempt in load.journal]
    assert max(answers) < running.config.publish_timeout + 5, "a request waited for too long"


@pytest.mark.parametrize("seconds", [5, pytest.param(60, marks=pytest.mark.long)])
def test_an_api_that_stands_still_loses_nothing(running, under_load, seconds):
    api = wait_until(lambda: running.pid("api"), "it runs", START_SECONDS, running.logs)
    with under_load(running) as load:
        load.wait_accepted(200, START_SECONDS)
        with frozen(api):
            time.sleep(seconds)
        load.wait_accepted(200, START_SECONDS)
    load.note(restarted=running.pid("api") != api)
    load.verify()


def test_a_worker_frozen_past_the_heartbeat_is_relieved_by_the_standby(stack, under_load):
    """It wakes with a transaction's worth of messages that the other one has stored meanwhile.

    The broker lets go of a client after two heartbeats without a sign: 20 seconds.
    """
    two = stack(workers=2, start=False)
    one, other = two.workers
    two.workers = [one]
    two.start()  # so this one is the active one
    two.workers.append(other)
    other.start()
    wait_until(lambda: "broker connected" in other.log_now, "it stands by", 30, two.logs)
    with under_load(two, rate=300) as load:
        load.wait_accepted(200)
        # Frozen amid a transaction, it would keep the database's lock, and nobody could store.
        lock = sqlite3.connect(two.database, isolation_level=None, timeout=30)
        lock.execute("BEGIN IMMEDIATE")
        with frozen(one.pid):
            lock.close()
            time.sleep(1)
            stood, began = two.count(), time.monotonic()
            wait_until(lambda: two.count() > stood + 200, "the other one stores", 90, two.logs)
            load.note(relieved_after=f"{time.monotonic() - began + 1:.0f} s")
            load.wait_accepted(200)
        load.wait_accepted(200)
    load.verify()
    assert one.running
    assert load.refused == [], "publishers noticed"
