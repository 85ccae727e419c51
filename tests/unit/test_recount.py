"""The recount: counters follow the rows, whatever other programs did to either."""

import threading
import time

import pytest
from ready_made import migrate
from sqlite_file import file_database
from store_contents import IDS, TIME, lines, many, one

from appliance.errors import InUseError, StoreError
from appliance.machine import locks
from appliance.model.retention import parse_rules
from appliance.store.sqlite import paths, recount
from appliance.store.sqlite.database import connect
from appliance.store.sqlite.recount import SqliteRecount
from appliance.store.sqlite.upkeep import Upkeep
from appliance.store.sqlite.writer import SqliteWriter

LATER = "2026-02-02T03:04:05.678Z"
ADD = "INSERT INTO messages (id, topic, body, received_at) VALUES"
REPLACE = (
    f"{ADD.replace('INSERT', 'REPLACE').replace('(', '(seq, ')} (1, 'mine', 'b', 'x', '{TIME}')"
)


@pytest.fixture
def path(tmp_path):
    """Two topics, 12 messages."""
    path = tmp_path / "appliance.db"
    migrate(path)
    store(path, lines([b"%d" % n for n in range(9)], "a"), many([b"x\0", "ü".encode()], "b"), one())
    return path


def store(path, *envelopes):
    writer = SqliteWriter(path)
    writer.store(envelopes)
    writer.close()


def change(path, *statements):
    link = connect(path, readonly=False)
    try:
        for statement in statements:
            link.execute(statement)
    finally:
        link.close()


def counters(path):
    link = connect(path, readonly=True)
    try:
        kept = link.execute("SELECT topic, messages, bytes FROM topics ORDER BY 1").fetchall()
        true = link.execute(
            "SELECT topic, count(*), sum(length(CAST(body AS BLOB))) FROM messages "
            "GROUP BY topic ORDER BY 1"
        ).fetchall()
    finally:
        link.close()
    return [row for row in kept if row[1:] != (0, 0)], true


def never(_seconds):
    return False


def recounted(path):
    return SqliteRecount(path, never).run()


def check(path):
    kept, true = counters(path)
    assert kept == true


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM messages WHERE topic = 'a' AND seq > 3",
        "DELETE FROM messages WHERE topic = 'b'",
        "DELETE FROM messages",
        "UPDATE messages SET body = 'much longer than it was'",
        "UPDATE messages SET body = x'00ff00' WHERE seq % 2",
        "UPDATE messages SET topic = 'c' WHERE topic = 'a'",
        "UPDATE messages SET topic = 'new', body = 'ö' WHERE seq = 1",
        "UPDATE OR REPLACE messages SET topic = 'b' WHERE seq = 1",
        f"UPDATE messages SET received_at = '{LATER}' WHERE seq = 1",
    ],
)
def test_counters_are_right_at_once_where_rows_are_deleted_or_changed_with_sql(path, statement):
    change(path, statement)
    check(path)
    assert recounted(path) == []


@pytest.mark.parametrize(
    ("statement", "topics"),
    [
        (f"{ADD} ('mine', 'a', 'hello', '{LATER}')", ["a"]),
        (f"{ADD} ('mine', 'new', 'hello', '{LATER}'), ('mine too', 'b', 'x', '{TIME}')",
         ["b", "new"]),
        (REPLACE, ["a", "b"]),
        ("UPDATE topics SET messages = 5000000 WHERE topic = 'a'", ["a"]),
        ("UPDATE topics SET bytes = bytes - 1", ["a", "b", "t"]),
        (f"UPDATE topics SET first_at = '{LATER}' WHERE topic = 'b'", ["b"]),
        ("UPDATE topics SET last_at = '2020' WHERE topic = 'b'", ["b"]),
        ("DELETE FROM topics WHERE topic = 'a'", ["a"]),
        (f"INSERT INTO topics VALUES ('none', 3, 3, '{TIME}', '{TIME}')", ["none"]),
    ],
)  # fmt: skip
def test_counters_that_others_made_wrong_are_corrected(path, statement, topics):
    change(path, statement)
    assert recounted(path) == topics
    check(path)
    assert recounted(path) == []
    store(path, one(b"more", "a", LATER), one(b"more", "b"), one(b"more", "new"))
    check(path)
    assert recounted(path) == []


def test_the_shell_of_an_old_debian_can_delete_too(path):
    """Debian 12's has no octet_length: a trigger that named it would refuse every deletion."""
    link = connect(path, readonly=True)
    query = "SELECT sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'messages'"
    triggers = [row[0] for row in link.execute(query)]
    link.close()
    assert len(triggers) == 5
    assert not any("octet_length" in sql for sql in triggers)


def test_a_correction_beside_a_busy_worker_stays_right(path):
    stop = threading.Event()

    def work():
        writer = SqliteWriter(path)
        while not stop.is_set():
            writer.store([lines([b"line"] * 200, "a"), one(b"x", "b")])
            time.sleep(0.005)  # SQLite's lock is not fair
        writer.close()

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for _ in range(30):
            change(
                path,
                f"{ADD} ('{IDS.new()}', 'a', 'mine', '{LATER}')",
                "DELETE FROM messages WHERE seq IN (SELECT seq FROM messages LIMIT 20)",
            )
            recounted(path)
    finally:
        stop.set()
        worker.join()
    check(path)


def test_two_recounts_never_correct_the_same_difference(path, monkeypatch):
    monkeypatch.setattr(recount, "_PATIENCE", 0.1)
    with (
        locks.held(paths.with_suffix(path, ".migrate")),
        pytest.raises(InUseError, match="another recount"),
    ):
        recounted(path)


def test_a_stop_ends_a_long_count(path, monkeypatch):
    monkeypatch.setattr(recount, "_STEPS", 10)
    change(path, "UPDATE topics SET messages = 7")
    assert SqliteRecount(path, lambda _: True).run() == []


def test_a_log_that_grows_without_end_stops_a_count(path, monkeypatch):
    monkeypatch.setattr(recount, "_STEPS", 10)
    monkeypatch.setattr(recount, "_WAL_GROWTH", -1)
    with pytest.raises(StoreError, match="write-ahead log grew"):
        recounted(path)


def test_the_janitor_corrects_counters_by_itself(path):
    duties = Upkeep(file_database(path), parse_rules(""), lambda _seconds: False).duties()
    change(path, "UPDATE topics SET messages = 7, bytes = 7")
    pauses = [duty.run() for duty in duties]
    check(path)
    assert max(pauses) <= 60
