"""Other programs in the database: locks, triggers, deletions beside retention."""

import json
import random
import sqlite3
import threading
import time
import uuid

import pytest
from harness import START_SECONDS, Folder, Process, environment, wait_until

from appliance.model.timestamps import timestamp

#: Rows of a topic that nobody sends to, two hours old.
OLD_ROWS = 100_000


def neighbour(one):
    """A connection of another program to the database."""
    return sqlite3.connect(one.database, isolation_level=None, timeout=60)


def reasons(one):
    return json.loads(one.client.get("/readyz").content)["reasons"]


def held(one):
    return any("a worker holds what it can't store" in reason for reason in reasons(one))


@pytest.mark.parametrize(
    "seconds", [12, pytest.param(60, marks=[pytest.mark.long, pytest.mark.timeout(600)])]
)
def test_a_program_that_holds_the_write_lock_holds_messages_up_and_loses_none(
    running, under_load, seconds
):
    with under_load(running) as load:
        load.wait_accepted(100, START_SECONDS)
        other = neighbour(running)
        other.execute("BEGIN IMMEDIATE")
        try:
            end = time.monotonic() + seconds
            wait_until(lambda: held(running), "not ready, and why", 60, running.logs)
            time.sleep(max(0.0, end - time.monotonic()))
        finally:
            other.execute("ROLLBACK")
            other.close()
        freed = time.monotonic()
        wait_until(running.ready, "it is ready again", START_SECONDS, running.logs)
        load.note(ready_after=round(time.monotonic() - freed, 1))
        load.wait_accepted(100, START_SECONDS)
    load.verify()  # no row has become a dead letter


def test_a_migration_waits_for_a_program_that_holds_the_write_lock(tmp_path):
    """As at an upgrade while somebody's transaction is open: the appliance must not give up."""
    folder = Folder()
    folder.data, folder.env = tmp_path / "data", environment(tmp_path / "data")
    migrate = Process("migrate", folder.env, tmp_path)
    try:
        migrate.start()
        assert migrate.popen.wait(30) == 0
        other = neighbour(folder)
        other.execute("DROP TABLE history")
        other.execute("DELETE FROM _sqlite_migrations WHERE name LIKE 'm013%'")
        other.execute("BEGIN IMMEDIATE")
        migrate.start()
        wait_until(lambda: "database locked by another" in migrate.log_now, "it says so", 30)
        time.sleep(6)  # a second attempt
        assert migrate.running
        assert migrate.log_now.count("database locked by another") == 1
        other.execute("ROLLBACK")
        other.close()
        assert migrate.popen.wait(30) == 0
        assert "database free again" in migrate.log_now
    finally:
        migrate.kill()


@pytest.mark.parametrize("way", ["ABORT, 'closed for today'", "ROLLBACK, 'no'", "IGNORE"])
def test_a_trigger_that_refuses_every_row_holds_messages_up_and_loses_none(
    running, under_load, way
):
    with under_load(running) as load:
        load.wait_accepted(100, START_SECONDS)
        other = neighbour(running)
        other.execute(
            f"CREATE TRIGGER closed BEFORE INSERT ON messages BEGIN SELECT raise({way}); END"
        )
        try:
            wait_until(
                lambda: any("tables were changed" in reason for reason in reasons(running)),
                "not ready, and why",
                60,
                running.logs,
            )
            time.sleep(3)
        finally:
            other.execute("DROP TRIGGER closed")
            other.close()
        wait_until(running.ready, "it is ready again", START_SECONDS, running.logs)
        load.wait_accepted(100, START_SECONDS)
    load.verify()  # no row has become a dead letter


@pytest.mark.long
@pytest.mark.timeout(600)
def test_deletions_beside_retention_and_a_backup_leave_every_message_and_right_counters(
    appliance, under_load
):
    """With checkpoints and recounts: all that writes at once, under load."""
    one = appliance(APPLIANCE_RETENTION="old: age=1h", APPLIANCE_BACKUP_EVERY="1h")
    done = threading.Event()
    deleted = []

    def delete():
        other = neighbour(one)
        query = (
            "DELETE FROM messages WHERE seq IN "
            "(SELECT seq FROM messages WHERE topic = 'old' ORDER BY random() LIMIT 20)"
        )
        while not done.wait(0.05):
            deleted.append(other.execute(query).rowcount)
        other.close()

    one.start().wait_ready()
    deleting = threading.Thread(target=delete)
    deleting.start()
    try:
        with under_load(one) as load:
            load.wait_accepted(100, START_SECONDS)
            insert_old(one)
            wait_until(lambda: "scheduled backup made" in one.log, "a backup", 60, one.logs)
            wait_until(lambda: "messages deleted" in one.log, "retention deletes", 120, one.logs)
            wait_until(lambda: one.count("old") == 0, "old rows are gone", 60, one.logs)
            load.wait_accepted(100, START_SECONDS)
    finally:
        done.set()
        deleting.join()
    load.note(deleted_by_hand=sum(deleted))
    load.verify()
    assert 0 < sum(deleted) < OLD_ROWS


def insert_old(one):
    """Insert rows of two hours ago, as another program does."""
    moment = timestamp(time.time() - 7200)
    rows = [(str(uuid.uuid4()), random.randbytes(300), moment) for _ in range(OLD_ROWS)]
    other = neighbour(one)
    other.execute("BEGIN IMMEDIATE")
    other.executemany(
        "INSERT INTO messages (id, topic, body, received_at) VALUES (?, 'old', ?, ?)", rows
    )
    other.execute("COMMIT")
    other.close()
