"""Retention, on real databases: what is deleted, and that counts and files follow."""

import random
import sqlite3
import threading
import time

import pytest
from ready_made import migrate
from sqlite_file import file_database

from appliance.errors import StoreError
from appliance.model.ids import IdSource
from appliance.model.retention import Rule, parse_rules
from appliance.model.timestamps import timestamp
from appliance.model.wire import Message, pack
from appliance.store.sql import short_deletes, sweeper
from appliance.store.sql.sweeper import Sweeper
from appliance.store.sqlite.writer import SqliteWriter

IDS = IdSource()
HOUR = 3600


@pytest.fixture
def path(tmp_path):
    migrate(tmp_path / "appliance.db")
    return tmp_path / "appliance.db"


def store(path, topic, *ages, size=10):
    """Store a message of each age in seconds, in this order."""
    now = time.time()
    writer = SqliteWriter(path)
    for start in range(0, len(ages), 1000):
        found = [
            Message(IDS.new(), timestamp(now - age), random.randbytes(size))
            for age in ages[start : start + 1000]
        ]
        writer.store([pack(topic, found, size * len(found))])
    writer.close()


def sweep(path, rules, rest=lambda _seconds: False):
    return Sweeper(file_database(path), parse_rules(rules), rest).sweep()


def ask(path, sql, *values):
    link = sqlite3.connect(path)
    try:
        return link.execute(sql, values).fetchall()
    finally:
        link.close()


def ages(path, topic):
    """The ages of a topic's messages in hours, in the order of storing."""
    rows = ask(path, "SELECT julianday('now') - julianday(received_at) FROM messages "
                     "WHERE topic = ? ORDER BY seq", topic)  # fmt: skip
    return [round(row[0] * 24) for row in rows]


def check_counts(path):
    """The topics' counts are those of their rows."""
    kept = ask(
        path,
        "SELECT topic, messages, bytes, first_at, last_at FROM topics WHERE messages ORDER BY 1",
    )
    counted = ask(
        path,
        "SELECT topic, count(*), sum(length(CAST(body AS BLOB))), min(received_at), "
        "max(received_at) FROM messages GROUP BY topic ORDER BY 1",
    )
    assert kept == counted


def test_messages_that_are_too_old_are_deleted(path):
    store(path, "t", 5 * HOUR, 3 * HOUR, HOUR)
    done = sweep(path, "*: age=2h")
    assert (done.rows, done.bytes) == (2, 20)
    assert ages(path, "t") == [1]
    check_counts(path)


def test_messages_that_are_too_old_are_found_behind_newer_ones(path):
    store(path, "t", 5 * HOUR, HOUR, 4 * HOUR, HOUR)
    sweep(path, "*: age=2h")
    assert ages(path, "t") == [1, 1]
    check_counts(path)


def test_times_of_a_topic_are_true_where_an_old_message_was_stored_late(path):
    """As one that was a dead letter and was sent again."""
    store(path, "t", *[5 * HOUR] * 1500, 4 * HOUR, *[3 * HOUR] * 1500)
    store(path, "t", 9 * HOUR)
    store(path, "t", HOUR)
    sweep(path, "t: rows=1503")
    assert ages(path, "t")[0] == 4
    check_counts(path)
    sweep(path, "t: rows=1")
    assert ages(path, "t") == [1]
    check_counts(path)


def test_the_last_time_of_a_topic_goes_with_its_message(path):
    store(path, "t", HOUR, 5 * HOUR, 4 * HOUR)
    sweep(path, "t: rows=1")
    assert ages(path, "t") == [4]
    check_counts(path)


def test_the_newest_rows_are_kept(path):
    store(path, "t", *(n * HOUR for n in range(9, 0, -1)))
    sweep(path, "t: rows=4")
    assert ages(path, "t") == [4, 3, 2, 1]
    check_counts(path)


def test_rows_go_until_the_bytes_are_few_enough(path):
    store(path, "t", *(n * HOUR for n in range(9, 0, -1)), size=100)
    sweep(path, "t: bytes=350")
    assert ages(path, "t") == [3, 2, 1]
    check_counts(path)


def test_the_first_rule_that_matches_counts_for_each_topic(path):
    for topic in ("logs.a", "logs.b", "audit", "other"):
        store(path, topic, 5 * HOUR, 3 * HOUR, HOUR)
    sweep(path, "logs.b: keep; logs.*: rows=1; audit: age=4h")
    assert ages(path, "logs.a") == [1]
    assert ages(path, "logs.b") == [5, 3, 1]
    assert ages(path, "audit") == [3, 1]
    assert ages(path, "other") == [5, 3, 1]
    check_counts(path)


def test_messages_of_the_last_minute_are_never_deleted(path):
    """It may be delivered again, and would be stored again."""
    store(path, "t", HOUR, 30, 1)
    sweep(path, "*: rows=0 bytes=0")
    assert ages(path, "t") == [0, 0]
    check_counts(path)


def test_a_topic_whose_messages_are_gone_stays_known(path):
    store(path, "t", HOUR)
    sweep(path, "*: rows=0")
    assert ask(path, "SELECT messages, bytes, first_at = last_at FROM topics") == [(0, 0, 1)]
    store(path, "t", 0)
    assert ask(path, "SELECT messages, bytes FROM topics") == [(1, 10)]


def test_numbers_of_rows_are_not_used_again(path):
    store(path, "t", HOUR, HOUR)
    sweep(path, "*: rows=0")
    store(path, "t", 0)
    assert ask(path, "SELECT seq FROM messages") == [(3,)]


def test_the_file_shrinks_and_stays_sound(path):
    store(path, "t", *[HOUR] * 40_000, size=1000)
    store(path, "u", *[HOUR] * 100)
    ask(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    before = path.stat().st_size
    done = sweep(path, "t: rows=1000")
    ask(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    assert before > 40e6
    assert path.stat().st_size < 12e6
    assert done.rows == 39_000
    assert done.pages * 8192 > 25e6
    assert ask(path, "PRAGMA integrity_check") == [("ok",)]
    check_counts(path)


def test_a_sweep_stops_between_two_transactions_and_goes_on_later(path):
    store(path, "t", *[HOUR] * 5000)
    pauses = []

    def rest(seconds):
        if seconds:  # not only a look within a long statement, whether to stop
            pauses.append(seconds)
        return len(pauses) >= 3

    done = sweep(path, "*: rows=0", rest)
    assert 0 < done.rows < 5000
    assert len(pauses) == 3
    check_counts(path)
    assert sweep(path, "*: rows=0").rows == 5000 - done.rows


def test_a_transaction_deletes_less_when_the_last_one_was_slow():
    pace = short_deletes.Pace(200, 10, 2000)
    pace.learn(0.5)
    assert pace.size == 100
    for _ in range(10):
        pace.learn(0.5)
    assert pace.size == 10
    for _ in range(50):
        pace.learn(0.001)
    assert pace.size == 2000


def test_large_bodies_are_deleted_a_few_at_a_time(path):
    store(path, "t", *[HOUR] * 20, size=2**20)
    rests = []
    sweep(path, "*: rows=0", lambda seconds: bool(rests.append(seconds)))
    assert len(rests) >= 5


def test_counts_hold_while_the_worker_stores(path):
    store(path, "t", *[HOUR] * 20_000)
    stop = threading.Event()

    def work():
        while not stop.is_set():
            store(path, "t", 0, HOUR, 0)
            store(path, "u", 0)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        done = sweep(path, "t: rows=500")
    finally:
        stop.set()
        worker.join()
    assert done.rows > 19_000
    kept = dict(ask(path, "SELECT topic, messages FROM topics"))
    assert kept == dict(ask(path, "SELECT topic, count(*) FROM messages GROUP BY topic"))
    sizes = dict(ask(path, "SELECT topic, bytes FROM topics"))
    assert sizes == {topic: count * 10 for topic, count in kept.items()}


def change(path, *statements):
    link = sqlite3.connect(path, isolation_level=None)
    try:
        for statement in statements:
            link.execute(statement)
    finally:
        link.close()


@pytest.mark.parametrize("rule", ["rows=4", "bytes=40", "rows=4 bytes=1000", "rows=9 bytes=40"])
@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE topics SET messages = 1000000, bytes = 1000000000",
        "UPDATE topics SET messages = 0, bytes = 0, first_at = '9999', last_at = '0000'",
        "UPDATE topics SET messages = -7, bytes = -7",
        "DELETE FROM topics",
    ],
)
def test_rows_and_no_counter_decide_what_is_deleted(path, rule, tampering):
    store(path, "t", *(n * HOUR for n in range(9, 0, -1)))
    store(path, "few", 2 * HOUR, HOUR)
    change(path, tampering)
    sweep(path, f"*: {rule}")
    assert ages(path, "t") == [4, 3, 2, 1]
    assert ages(path, "few") == [2, 1]
    change(path, tampering)
    assert sweep(path, f"*: {rule}").rows == 0


@pytest.mark.parametrize("tampering", ["DELETE FROM topics", "UPDATE topics SET first_at = '9'"])
def test_an_age_is_that_of_the_rows(path, tampering):
    store(path, "t", 5 * HOUR, HOUR)
    change(path, tampering)
    sweep(path, "*: age=2h")
    assert ages(path, "t") == [1]


def test_rows_that_were_deleted_with_sql_no_longer_count(path):
    """450 rows, 400 deleted by hand, 160 more: there were never 500 since, and 210 stay."""
    store(path, "t", *[HOUR] * 450)
    change(path, "DELETE FROM messages WHERE topic = 't' AND seq <= 400")
    check_counts(path)
    store(path, "t", *[HOUR] * 160)
    assert sweep(path, "t: rows=500").rows == 0
    check_counts(path)
    store(path, "t", *[HOUR] * 300)
    assert sweep(path, "t: rows=500").rows == 10
    check_counts(path)


def test_rows_that_were_inserted_with_sql_count(path):
    store(path, "t", *[HOUR] * 3)
    change(path, *[
        "INSERT INTO messages (id, topic, body, received_at) "
        f"VALUES ('{n}', 't', 'mine', '2026-01-01T00:00:00.000Z')" for n in range(4)
    ])  # fmt: skip
    assert sweep(path, "t: rows=5").rows == 2


def test_a_row_that_a_trigger_keeps_stays_and_the_others_go(path):
    store(path, "t", *(n * HOUR for n in range(9, 0, -1)))
    store(path, "u", 2 * HOUR, HOUR)
    change(
        path,
        "CREATE TRIGGER keep BEFORE DELETE ON messages WHEN old.seq IN (1, 3, 4) "
        "BEGIN SELECT raise(ABORT, 'this one is evidence'); END",
    )
    for _ in range(2):
        sweep(path, "*: rows=1")
    assert ages(path, "t") == [9, 7, 6, 1]
    assert ages(path, "u") == [1]
    check_counts(path)


@pytest.mark.parametrize("way", ["ABORT, 'no'", "FAIL, 'no'", "ROLLBACK, 'no'", "IGNORE"])
@pytest.mark.parametrize("moment", ["BEFORE", "AFTER"])
def test_a_trigger_that_refuses_in_any_way_stops_no_retention(path, way, moment):
    store(path, "t", *[HOUR] * 100, *[0] * 3)
    store(path, "u", *[HOUR] * 5)
    change(
        path,
        f"CREATE TRIGGER keep {moment} DELETE ON messages WHEN old.seq % 10 = 0 "
        f"BEGIN SELECT raise({way}); END",
    )
    sweep(path, "*: rows=3")
    left = [row[0] for row in ask(path, "SELECT seq FROM messages WHERE topic = 't'")]
    if moment == "BEFORE" or way[:4] in {"ABOR", "ROLL"}:
        assert left == [*range(10, 101, 10), 101, 102, 103]
    assert left[-3:] == [101, 102, 103]
    assert len(ages(path, "u")) == 3


def test_a_trigger_that_keeps_every_row_costs_a_sweep_a_bounded_time(path, monkeypatch):
    monkeypatch.setattr(sweeper, "_MOST_REFUSED", 100)
    store(path, "t", *[HOUR] * 1000)
    change(
        path,
        "CREATE TRIGGER keep BEFORE DELETE ON messages WHEN old.seq <= 500 "
        "BEGIN SELECT raise(ABORT, 'append only'); END",
    )
    made = Sweeper(file_database(path), parse_rules("t: rows=100"), lambda _seconds: False)
    for _ in range(4):
        made._count_at.clear()
        made.sweep()
    # Each sweep goes on behind the rows that the last one could not delete.
    assert [row[0] for row in ask(path, "SELECT seq FROM messages")] == [
        *range(1, 501), *range(901, 1001),
    ]  # fmt: skip
    check_counts(path)


def test_a_trigger_that_stores_a_row_for_each_deleted_one_does_not_keep_it_going(path):
    store(path, "t", *[HOUR] * 300)
    change(
        path,
        "CREATE TRIGGER again AFTER DELETE ON messages BEGIN "
        "INSERT INTO messages (id, topic, body, received_at) "
        "VALUES (old.id || 'x', old.topic, old.body, old.received_at); END",
    )
    assert sweep(path, "t: age=2h rows=100").rows == 200
    assert sweep(path, "t: age=10m rows=100").rows == 300


def test_a_full_text_index_that_lacks_the_rows_stops_no_retention_of_others(path):
    """FTS5 says `database disk image is malformed` where a row has more words than the index.

    A row of fewer words would be taken out of the index, and those of `u` be missing then.
    """
    store(path, "t", *[HOUR] * 5, size=1000)
    change(
        path,
        "CREATE VIRTUAL TABLE found USING fts5 (body, content='messages', content_rowid='seq')",
        "CREATE TRIGGER gone AFTER DELETE ON messages BEGIN "
        "INSERT INTO found (found, rowid, body) VALUES ('delete', old.seq, old.body); END",
        "CREATE TRIGGER come AFTER INSERT ON messages BEGIN "
        "INSERT INTO found (rowid, body) VALUES (new.seq, new.body); END",
    )
    store(path, "u", *[HOUR] * 5)
    sweep(path, "*: rows=2")
    assert (len(ages(path, "t")), len(ages(path, "u"))) == (5, 2)
    check_counts(path)
    change(path, "INSERT INTO found (found) VALUES ('rebuild')")
    sweep(path, "*: rows=2")
    assert (len(ages(path, "t")), len(ages(path, "u"))) == (2, 2)
    check_counts(path)


def test_foreign_keys_of_others_stop_no_retention(path):
    store(path, "t", *[HOUR] * 5)
    change(
        path,
        "CREATE TABLE notes (seq INTEGER NOT NULL REFERENCES messages (seq), note TEXT)",
        "INSERT INTO notes SELECT seq, 'mine' FROM messages",
    )
    assert sweep(path, "t: rows=2").rows == 3
    assert len(ask(path, "SELECT * FROM notes")) == 5


def test_a_trigger_that_names_a_missing_table_is_a_failure_that_heals(path):
    store(path, "t", *[HOUR] * 5)
    change(
        path,
        "CREATE TRIGGER copy AFTER DELETE ON messages BEGIN "
        "INSERT INTO nowhere VALUES (old.seq); END",
    )
    with pytest.raises(StoreError, match=r"no such table: main\.nowhere"):
        sweep(path, "t: rows=2")
    change(path, "CREATE TABLE nowhere (seq)")
    assert sweep(path, "t: rows=2").rows == 3
    assert len(ask(path, "SELECT * FROM nowhere")) == 3


def test_rules_are_shown_as_they_were_written():
    text = "logs.*: age=604800s rows=1000000; audit: keep; *: bytes=1024"
    assert str(parse_rules(text)) == text
    assert not parse_rules("")


@pytest.mark.parametrize(
    ("pattern", "topic", "matches"),
    [
        ("*", "anything.at-all", True),
        ("logs.*", "logs.a.b", True),
        ("logs.*", "logs", False),
        ("logs.*", "logsxa", False),
        ("*-debug", "api-debug", True),
        ("a*c", "abc", True),
        ("a", "ab", False),
    ],
)
def test_a_star_stands_for_any_characters(pattern, topic, matches):
    assert Rule(pattern).matches(topic) == matches


def test_a_rule_that_never_counts_is_told_with_the_one_before():
    with pytest.raises(ValueError, match=r"'logs: age=1d' never counts: '\*' before it"):
        parse_rules("*: rows=5; logs: age=1d")
