"""What `appliance verify` finds in a database that nothing runs beside."""

import json
import os
import subprocess
import sys

import pytest
from ready_made import migrate

from appliance import config as configuration
from appliance.errors import StoreError
from appliance.model.contents import DeadLetter
from appliance.model.ids import IdSource
from appliance.model.ledger import LedgerEntry
from appliance.model.wire import Envelope, batch, single
from appliance.store import open_store
from appliance.store.sqlite import verify as checks
from appliance.store.sqlite.database import connect
from appliance.store.sqlite.writer import SqliteWriter

TIME = "2026-01-02T03:04:05.678Z"
IDS = IdSource()
SOURCE = "0123456789abcdef"
INTO = "INTO messages (seq, id, topic, body, received_at) VALUES"
ADD_CHECK = (
    "UPDATE sqlite_master SET sql = replace(sql, 'NULL UNIQUE', 'NULL UNIQUE CHECK (1)') "
    "WHERE name = 'messages'"
)
NO_DEFAULT = (
    "your column mine of the table messages is NOT NULL and has no default: no row can be stored"
)


@pytest.fixture
def path(tmp_path):
    """A database with two topics, a dead letter and a source, all well."""
    path = tmp_path / "appliance.db"
    migrate(path)
    writer = SqliteWriter(path)
    writer.store([batch("lines", IDS.prefix(), TIME, [b"%d" % n for n in range(500)])])
    writer.store([numbered(1), numbered(2, 1), numbered(4, 3, [[3, 3]])])
    writer.store([DeadLetter("BAD", IDS.new(), TIME, b"x", "bad-topic", "why")])
    writer.close()
    return path


def numbered(number, settled=0, not_kept=()):
    made = single("singles", IDS.new(), TIME, b"x")
    ledger = LedgerEntry(SOURCE, number, settled, list(not_kept)).encode()
    return Envelope(made.topic, made.kind, made.id, TIME, 1, 1, b"x", ledger)


def store(path, *envelopes):
    writer = SqliteWriter(path)
    writer.store(envelopes)
    writer.close()


def change(path, *statements):
    link = connect(path, readonly=False)
    link.execute("PRAGMA writable_schema = ON")
    for statement in statements:
        link.execute(statement)
    link.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    link.close()


def verify(path, *, quick=False, alone=True):
    return checks.verify(path, quick=quick, alone=alone, progress=lambda *_: None)


def command(path, *options):
    done = subprocess.run(
        [sys.executable, "-m", "appliance", "verify", "--database", str(path), *options],
        capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_a_sound_database_is_said_to_be_sound(path):
    status, out, errors = command(path)
    assert (status, errors) == (0, "")
    assert "503 in 2 topics" in out
    assert "bad-topic 1" in out
    assert "3 from 1 API process, none missing; 1 refused or given up" in out
    assert out.endswith("all is well\n")


def test_the_answer_for_machines_has_all_of_it(path):
    status, out, _ = command(path, "--json", "--quick")
    found = json.loads(out)
    assert status == 0
    assert found["ok"] is True
    assert found["problems"] == found["notes"] == found["yours"] == []
    assert found["schema"] == found["schema_wanted"]
    assert found["integrity"] == {
        "check": "quick_check", "ok": True, "errors": [], "objects": [], "yours": [],
    }  # fmt: skip
    assert found["messages"] == {
        "rows": 503, "bytes": 1393, "topics": 2, "wrong_counters": 0, "wrong": [],
    }  # fmt: skip
    assert found["dead_letters"] == {
        "total": 1, "by_reason": {"bad-topic": 1}, "also_stored": 0,
    }  # fmt: skip
    assert found["sources"] == {
        "total": 1, "accounted": 4, "not_kept": 1, "missing": 0, "unknown": 0, "accepted": 0,
        "gaps": [],
    }  # fmt: skip
    assert found["queue"]["depth"] is found["queue"]["not_stored"] is None


def test_a_copy_is_looked_at_without_a_trace(path):
    change(path, "VACUUM")
    for name in ("-wal", "-shm"):
        path.with_name(path.name + name).unlink(missing_ok=True)
    before = sorted(p.name for p in path.parent.iterdir())
    assert command(path)[0] == 0
    assert sorted(p.name for p in path.parent.iterdir()) == before


@pytest.mark.parametrize(
    ("statement", "kept", "true"),
    [
        ("UPDATE topics SET messages = messages + 1 WHERE topic = 'lines'", 501, 500),
        ("UPDATE topics SET bytes = 0 WHERE topic = 'lines'", 500, 500),
        ("UPDATE topics SET first_at = '2030' WHERE topic = 'lines'", 500, 500),
        ("UPDATE topics SET last_at = '2020' WHERE topic = 'lines'", 500, 500),
        ("DELETE FROM topics WHERE topic = 'lines'", 0, 500),
        (f"INSERT {INTO} (990, 'mine', 'lines', 'x', '{TIME}')", 500, 501),
        (f"REPLACE {INTO} (7, 'mine', 'lines', 'longer than before', '{TIME}')", 500, 500),
    ],
)
def test_counters_that_are_not_those_of_the_rows_are_named(path, statement, kept, true):
    change(path, statement)
    found = verify(path)
    (wrong,) = found.messages.wrong
    assert wrong.topic == "lines"
    assert (wrong.kept["messages"], wrong.true["messages"]) == (kept, true)
    status, out, _ = command(path)
    assert status == 1
    assert "WRONG: topics with wrong counters: 1" in out
    assert "topic lines: kept" in out


def test_times_that_retention_has_not_caught_up_with_are_no_trouble(path):
    change(path, "UPDATE topics SET first_at = '2020', last_at = '2030' WHERE topic = 'lines'")
    assert verify(path).problems == []


def test_a_topic_of_which_nothing_is_left_is_no_trouble(path):
    change(
        path,
        "DELETE FROM messages WHERE topic = 'lines'",
        "UPDATE topics SET messages = 0, bytes = 0 WHERE topic = 'lines'",
    )
    assert verify(path).problems == []


def test_an_index_without_an_entry_is_found_and_quickly_not(path):
    """The unique index is what keeps a message from being stored twice."""
    rootpage = "(SELECT rootpage FROM sqlite_master WHERE name = 'messages_topic')"
    change(
        path,
        "CREATE TABLE other (x)",
        "CREATE INDEX other_x ON other (x)",
        f"UPDATE sqlite_master SET rootpage = {rootpage} WHERE name = 'other_x'",
    )
    assert verify(path).integrity.ok is False
    status, out, _ = command(path)
    assert status == 1
    assert "the file is damaged" in out


def test_an_index_that_is_gone_is_found(path):
    change(path, "DROP INDEX messages_topic")
    found = verify(path)
    assert found.problems == ["the index messages_topic is gone"]
    assert found.integrity.errors == []


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("ALTER TABLE messages ADD COLUMN done INTEGER DEFAULT 0",
         "the column done of the table messages"),
        ("ALTER TABLE messages ADD COLUMN device TEXT AS (length(body))",
         "the column device of the table messages"),
        ("ALTER TABLE dead_letters ADD COLUMN seen_by TEXT",
         "the column seen_by of the table dead_letters"),
        ("CREATE INDEX mine ON messages (received_at)", "the index mine of the table messages"),
        ("CREATE UNIQUE INDEX once ON messages (seq, body)",
         "the index once of the table messages, which is unique and can refuse messages"),
        ("CREATE TRIGGER copy AFTER INSERT ON messages BEGIN SELECT 1; END",
         "the trigger copy on the table messages"),
        ("CREATE VIEW readings AS SELECT * FROM messages", "the view readings"),
        ("CREATE TABLE notes (seq INTEGER REFERENCES messages (seq), note TEXT UNIQUE)",
         "the table notes"),
        ("CREATE VIRTUAL TABLE search USING fts5 (body, content='messages')", "the table search"),
        (ADD_CHECK,
         "a CHECK constraint of the table messages"),
    ],
)  # fmt: skip
def test_additions_of_others_are_named_as_theirs_and_are_no_fault(path, statement, named):
    change(path, statement, "ANALYZE")
    found = verify(path)
    assert (found.problems, found.integrity.ok, found.yours) == ([], True, [named])
    status, out, _ = command(path)
    assert status == 0
    assert f"yours: {named}\n" in out
    assert out.endswith("all is well\n")


@pytest.mark.parametrize("quick", [True, False])
def test_an_expression_of_others_that_fails_for_a_row_is_no_damage(path, quick):
    """SQLite's check would end with `malformed JSON`, and hide what it did not come to."""
    store(path, single("t", IDS.new(), TIME, b"not JSON"))
    change(path, "ALTER TABLE messages ADD COLUMN device TEXT AS (body ->> '$.device')")
    found = verify(path, quick=quick)
    assert found.problems == []
    assert found.yours[0] == "the column device of the table messages"
    assert (
        "an expression on the table messages fails for some of its rows (malformed JSON)"
        in (found.yours[1])
    )


def test_damage_is_found_though_an_expression_of_others_fails(path):
    store(path, batch("lines", IDS.prefix(), TIME, [b"x" * 7000] * 50))
    change(path, "ALTER TABLE messages ADD COLUMN device TEXT AS (body ->> '$.device')")
    with path.open("r+b") as file:
        file.seek(-10 * 8192, 2)
        file.write(b"\xff" * 4096)
    status, out, errors = command(path)
    assert status == 1
    assert "damaged" in out or "malformed" in errors


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("ALTER TABLE messages RENAME COLUMN body TO payload",
         "the column body of the table messages is gone"),
        ("ALTER TABLE topics DROP COLUMN bytes", "the column bytes of the table topics is gone"),
        ("DROP TABLE dead_letters", "the table dead_letters is gone"),
        ("ALTER TABLE messages RENAME TO letters", "the table messages is gone"),
        ("DROP TRIGGER appliance_message_deleted", "the trigger appliance_message_deleted is gone"),
        ("DROP INDEX messages_topic", "the index messages_topic is gone"),
        ("DROP INDEX messages_topic; CREATE INDEX messages_topic ON messages (topic, body)",
         "the index messages_topic is changed"),
    ],
)  # fmt: skip
def test_objects_of_ours_that_are_gone_or_changed_are_a_fault_of_the_schema(
    path, statement, problem
):
    change(path, "DROP TRIGGER IF EXISTS appliance_message_updated", *statement.split("; "))
    found = verify(path)
    assert problem in found.problems
    status, out, _ = command(path)
    assert status == 1
    assert "structure     sound; the schema is WRONG" in out
    assert f"WRONG: {problem}" in out


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("id TEXT NOT NULL UNIQUE", "id TEXT NOT NULL",
         "id of the table messages must be unique, and is not"),
        ("PRIMARY KEY AUTOINCREMENT", "PRIMARY KEY",
         "the table messages has lost its AUTOINCREMENT: numbers could be used again"),
        ("topic TEXT NOT NULL", "topic TEXT NOT NULL, mine TEXT NOT NULL",
         NO_DEFAULT),
        ("topic TEXT NOT NULL", "topic INTEGER NOT NULL",
         "the column topic of the table messages is changed"),
    ],
)  # fmt: skip
def test_a_table_that_was_made_again_otherwise_is_a_fault(path, old, new, problem):
    """As `sqlite-utils transform` makes tables again."""
    link = connect(path, readonly=False)
    link.execute("PRAGMA legacy_alter_table = ON")
    (sql,) = link.execute("SELECT sql FROM sqlite_master WHERE name = 'messages'").fetchone()
    assert old in sql
    link.execute("DROP TABLE messages")
    link.execute(sql.replace(old, new))
    link.execute("DELETE FROM topics")
    link.close()
    found = verify(path)
    assert problem in found.problems
    assert "the index messages_topic is gone" in found.problems


def test_a_repair_makes_anew_what_is_gone_and_corrects_the_counters(path):
    change(
        path,
        "DROP INDEX messages_topic",
        "DROP TRIGGER appliance_message_deleted",
        "DELETE FROM messages WHERE topic = 'lines' AND seq % 2",
        "UPDATE topics SET bytes = -5 WHERE topic = 'singles'",
    )
    assert command(path)[0] == 1
    status, out, errors = command(path, "--repair")
    assert status == 0, out
    assert errors.splitlines() == [
        "made anew: the index messages_topic",
        "made anew: the trigger appliance_message_deleted",
        "corrected: the counters of the topic lines",
        "corrected: the counters of the topic singles",
    ]
    assert command(path, "--repair")[2] == ""


def test_a_damaged_page_is_found(path):
    with path.open("r+b") as file:
        file.seek(5 * 8192)
        file.write(b"\xff" * 4096)
    status, out, errors = command(path)
    assert status == 1
    assert "damaged" in out or "malformed" in errors


def test_a_missing_envelope_is_named_with_its_source_and_number(path):
    writer = SqliteWriter(path)
    writer.store([numbered(9, 7)])
    writer.close()
    status, out, _ = command(path)
    assert status == 1
    assert "WRONG: envelopes missing: 3" in out
    assert f"source {SOURCE} " in out
    assert "missing 5 to 7" in out
    assert "not known whether they were confirmed: 1;" in out  # the eighth
    (gap,) = verify(path).sources.gaps
    assert (gap.missing_ranges, gap.unknown_ranges) == ([[5, 7]], [[8, 8]])


def test_an_unknown_fate_is_no_failure(path):
    writer = SqliteWriter(path)
    writer.store([numbered(9, 4)])
    writer.close()
    status, out, _ = command(path)
    assert status == 0
    assert "not known whether they were confirmed: 4;" in out


def test_an_acknowledged_loss_is_a_note_from_then_on(path):
    writer = SqliteWriter(path)
    writer.store([numbered(9, 8)])
    writer.close()
    status, out, errors = command(path, "--accept")
    assert (status, errors) == (0, "missing envelopes acknowledged: 4\n")
    assert "note: envelopes that were missing, accepted as such: 4" in out
    assert command(path)[0] == 0


def test_a_source_that_cannot_be_read_is_named(path):
    change(path, "UPDATE sources SET accounted = 'x'")
    (problem,) = verify(path).problems
    assert problem.startswith(f"source {SOURCE}: a row of the table sources can't be read")


def test_a_dead_letter_whose_message_is_stored_as_well_is_noted(path):
    made = single("singles", IDS.new(), TIME, b"twice")
    writer = SqliteWriter(path)
    writer.store([made, DeadLetter("singles", made.id, TIME, b"twice", "too-large", "why")])
    writer.store([DeadLetter("singles", made.id, TIME, b"other", "conflict", "why")])
    writer.close()
    found = verify(path)
    assert (found.dead_letters.total, found.dead_letters.also_stored) == (3, 1)
    assert found.problems == []
    assert "discard them: 1" in found.notes[0]


@pytest.mark.parametrize("version", [1, 99])
def test_another_schema_is_told_and_the_file_is_checked_all_the_same(path, version):
    change(path, f"PRAGMA user_version = {version}")
    found = verify(path)
    assert found.integrity.check == "integrity_check"
    assert f"schema {version}, this program's is {found.schema_wanted}" in found.problems[0]


def test_a_file_that_is_no_database_is_said_to_be_none(tmp_path):
    (tmp_path / "notes").write_text("somebody's notes\n" * 100)
    status, _, errors = command(tmp_path / "notes")
    assert status == 1
    assert "not a database" in errors
    assert command(tmp_path / "none")[0] == 2


def test_a_log_that_would_grow_without_end_ends_the_check(path, monkeypatch):
    link = connect(path, readonly=False)
    monkeypatch.setattr(checks, "_TICK", 0)
    monkeypatch.setattr(checks, "_STEPS", 10)
    monkeypatch.setattr(checks, "_WAL_GROWTH", 100_000)

    def write(step, _):
        if step == "counters":
            link.execute("INSERT INTO sources VALUES (hex(randomblob(9999)),'',0,0,0,0,'','')")

    with pytest.raises(StoreError, match="verify a backup instead"):
        checks.verify(path, quick=True, alone=False, progress=write)
    link.close()


def test_the_entry_of_a_running_source_counts_envelopes_that_have_not_come(path):
    store = open_store(configuration.load({"APPLIANCE_DATA": str(path.parent)}))
    assert store.unaccounted(LedgerEntry(SOURCE, None, 4, [])) == 0
    assert store.unaccounted(LedgerEntry(SOURCE, None, 9, [[6, 7]])) == 3
    assert store.unaccounted(LedgerEntry("f" * 16, None, 2, [])) == 2
