"""Loss of the database's servers, and of the room on their disks, under load."""

import contextlib
import time

import psycopg
import pytest
from cluster_databases import SERVERS
from harness import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

#: Seconds: the promise. Messages without a key are answered 202 while no database is there.
OUTAGE = 10.0


def stored(load):
    """How many messages of a load are rows; 0 where no database answers."""
    with contextlib.suppress(psycopg.Error):
        return load.stored()
    return 0


def wait_stored(load):
    """Wait until what is accepted by now is stored; return the seconds that took."""
    accepted, began = load.sending.journal.accepted, time.monotonic()
    wait_until(
        lambda: stored(load) >= accepted, "what was answered 202 is stored", 60, load.stack.logs
    )
    return round(time.monotonic() - began, 1)


def test_a_standby_is_promoted_and_the_old_primary_stores_nothing_when_it_comes_back(
    cluster, under_load
):
    databases = cluster.databases
    old, new = databases.primary, databases.standby
    with under_load() as load:
        load.wait_accepted(300)
        cluster.kill(old)
        load.wait_some_accepted(300)
        databases.promote(new)
        load.note(stored_again_after=wait_stored(load))
        with databases.unreachable(new, from_server=old):
            began = len(databases.said(old))
            cluster.bring_back(old)
            load.wait_accepted(300)
            wait_until(
                lambda: f"waits for {new}" in databases.said(old)[began:],
                "the old primary waits until it knows who is the primary",
                60,
                lambda: databases.said(old),
            )
            assert databases.ask(old, "SELECT 1") is None
        databases.wait_whole()
        load.wait_accepted(300)
    load.verify()
    assert databases.primary == new
    assert load.figures.unanswered == 0
    assert "starts as the primary" not in databases.said(old)[began:]
    assert load.figures.outage_seconds < OUTAGE


def test_a_standby_is_not_promoted_beside_a_primary_that_takes_writes(running):
    databases = running.databases
    primary, standby = databases.primary, databases.standby
    with pytest.raises(AssertionError, match=f"{primary} is the primary. Stop it first"):
        databases.promote(standby)
    assert databases.primary == primary


def test_messages_are_taken_while_the_disk_of_the_primary_is_full_and_stored_once_it_has_room(
    cluster, under_load
):
    databases = cluster.databases
    primary = databases.primary
    with under_load() as load:
        load.wait_accepted(300)
        with databases.full_disk(primary):
            wait_until(
                lambda: load.sending.journal.accepted - stored(load) > 300,
                "nothing is stored any more",
                60,
                cluster.logs,
            )
            load.wait_some_accepted(300)
        databases.wait_whole()
        load.wait_accepted(300)
    load.verify()
    assert load.figures.outage_seconds < OUTAGE


@pytest.mark.long
@pytest.mark.parametrize("round_number", [1, 2])
def test_a_primary_that_is_stopped_hands_over_to_its_standby_and_back(
    cluster, under_load, round_number
):
    databases = cluster.databases
    with under_load() as load:
        for _ in SERVERS:
            old, new = databases.primary, databases.standby
            load.wait_accepted(300)
            cluster.stop(old)
            load.wait_some_accepted(100)
            databases.promote(new)
            load.wait_accepted(300)
            cluster.bring_back(old)
            databases.wait_whole()
        load.note(round=round_number)
    load.verify()
    assert load.figures.outage_seconds < OUTAGE
