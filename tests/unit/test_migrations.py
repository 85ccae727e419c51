"""The database is made once, the same way, by whoever comes first."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from sqlite_file import file_database

from appliance import config as configuration
from appliance.errors import SchemaError, StoreError, StoreLockedError
from appliance.model.history_points import HistoryPoint
from appliance.model.search_words import parse_words
from appliance.store import open_store
from appliance.store.access_rows import Actor, Deed, SessionRow
from appliance.store.deletion_rows import QUEUED, DeletionRow, Selection
from appliance.store.filters import MessageFilter
from appliance.store.rows import Span
from appliance.store.sql.dead_letters import StoredDeadLetters
from appliance.store.sqlite import database, migrations, schema_check
from appliance.store.sqlite.database import connect, sqlite3
from appliance.store.sqlite.indexer import Indexer
from appliance.store.sqlite.migrations import check, migrate
from appliance.store.sqlite.upkeep import checkpoint
from appliance.store.sqlite.writer import SqliteWriter

RACER = """
import sys
from pathlib import Path
from appliance.store.sqlite.migrations import migrate
print("ready", flush=True)
sys.stdin.readline()
print(len(migrate(Path(sys.argv[1]))))
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data" / "appliance.db"


def pragma(path, name):
    link = connect(path, readonly=True)
    try:
        return link.execute(f"PRAGMA {name}").fetchone()[0]
    finally:
        link.close()


def test_processes_that_migrate_at_once_make_one_database(path):
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    answers = [racer.communicate(timeout=60) for racer in racers]
    assert [errors for _, errors in answers] == [""] * 6
    applied = sorted(int(out) for out, _ in answers)
    assert applied[:-1] == [0] * 5
    assert applied[-1] >= 1  # only one of them did it
    SqliteWriter(path).close()


@pytest.fixture
def short_writes(path):
    """Return a function that begins to take the writer's lock again and again, for 3 ms each."""
    enough = threading.Event()

    def write():
        link = connect(path, readonly=False)
        while not enough.is_set():
            link.execute("BEGIN IMMEDIATE")
            time.sleep(0.003)
            link.execute("ROLLBACK")
            time.sleep(0.003)
        link.close()

    writer = threading.Thread(target=write)

    def begin():
        writer.start()
        time.sleep(0.02)

    yield begin
    enough.set()
    writer.join()


def test_a_new_database_is_made_beside_processes_that_hold_its_lock(path, short_writes):
    path.parent.mkdir()
    migrations._create(path)
    short_writes()
    assert len(migrate(path)) == len(migrations._migrations)


@pytest.mark.parametrize("schema", [3, 8, 12])
def test_an_old_database_is_migrated_beside_processes_that_hold_its_lock(
    path, schema, monkeypatch, short_writes
):
    migrate_to(path, schema, monkeypatch)
    short_writes()
    assert len(migrate(path)) == len(migrations._migrations) - schema
    link = connect(path, readonly=True)
    assert schema_check.examine(link).wrong == []
    link.close()


def test_a_migration_that_another_program_keeps_waiting_says_that_it_is_locked(path, monkeypatch):
    migrate_to(path, 12, monkeypatch)
    monkeypatch.setattr(database, "_BUSY_TIMEOUT_MS", 50)
    other = connect(path, readonly=False)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreLockedError, match="database is locked"):
        migrate(path)
    other.execute("ROLLBACK")
    other.close()
    assert migrate(path)[0] == "m013_history"


def test_a_log_that_a_removed_database_left_is_not_read_into_the_new_one(path):
    migrate(path)
    link = connect(path, readonly=False)
    link.execute("INSERT INTO topics VALUES ('t', 1, 1, 'a', 'b')")
    log = path.with_name(path.name + "-wal").read_bytes()
    link.close()
    path.unlink()
    path.with_name(path.name + "-wal").write_bytes(log)
    migrate(path)
    link = connect(path, readonly=True)
    assert link.execute("SELECT count(*) FROM topics").fetchone() == (0,)
    assert link.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    link.close()


def test_a_second_time_changes_nothing(path):
    assert migrate(path) != []
    before = path.read_bytes()
    assert migrate(path) == []
    assert path.read_bytes() == before


def test_a_new_database_has_the_settings_that_cannot_be_changed_later(path):
    migrate(path)
    assert pragma(path, "page_size") == 8192
    assert pragma(path, "journal_mode") == "wal"
    assert pragma(path, "auto_vacuum") == 2  # incremental
    link = connect(path, readonly=False)
    assert link.execute("PRAGMA synchronous").fetchone()[0] == 2  # full
    link.close()


def test_an_empty_file_becomes_a_database_too(path):
    path.parent.mkdir()
    path.touch()
    migrate(path)
    assert pragma(path, "page_size") == 8192
    SqliteWriter(path).close()


def test_the_schema_is_what_the_documentation_says(path):
    migrate(path)
    link = connect(path, readonly=True)
    columns = {
        table: [row[1] for row in link.execute(f"PRAGMA table_info({table})")]
        for table in ("messages", "topics", "dead_letters", "sources")
    }
    link.close()
    assert columns == {
        "messages": ["seq", "id", "topic", "body", "received_at", "content_type", "meta"],
        "topics": ["topic", "messages", "bytes", "first_at", "last_at"],
        "dead_letters": [
            "seq", "id", "topic", "body", "reason", "error", "received_at", "dead_at",
            "content_type", "meta",
        ],
        "sources": [
            "source", "accounted", "settled", "not_kept", "missing", "accepted",
            "first_at", "last_at",
        ],
    }  # fmt: skip


def test_a_newer_schema_is_refused_and_left_alone(path):
    migrate(path)
    link = connect(path, readonly=False)
    link.execute("PRAGMA user_version = 99")
    link.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    link.close()
    before = path.read_bytes()
    with pytest.raises(SchemaError, match="99 is newer"):
        migrate(path)
    with pytest.raises(SchemaError, match="99 is newer"):
        SqliteWriter(path)
    assert path.read_bytes() == before


def test_an_older_schema_is_refused_with_what_to_do(path):
    migrate(path)
    link = connect(path, readonly=False)
    link.execute("PRAGMA user_version = 0")
    with pytest.raises(SchemaError, match="run appliance migrate"):
        check(link, path)
    link.close()


def test_a_version_lost_between_two_steps_is_set_again(path):
    migrate(path)
    link = connect(path, readonly=False)
    link.execute("PRAGMA user_version = 0")
    link.close()
    assert migrate(path) == []
    SqliteWriter(path).close()


def test_a_file_that_is_no_database_is_refused_and_left_alone(path):
    path.parent.mkdir()
    path.write_bytes(b"these are somebody's notes, not a database\n" * 100)
    before = path.read_bytes()
    with pytest.raises(StoreError):
        migrate(path)
    assert path.read_bytes() == before


def test_a_folder_that_cannot_be_made_is_a_store_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="can't be made"):
        migrate(tmp_path / "file" / "appliance.db")


def test_a_reader_creates_nothing(path):
    path.parent.mkdir()
    with pytest.raises(StoreError):
        connect(path, readonly=True)
    assert list(path.parent.iterdir()) == []


def test_a_reader_cannot_write(path):
    migrate(path)
    link = connect(path, readonly=True)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        link.execute("DELETE FROM messages")
    link.close()


def test_sqlite_is_one_without_the_wal_reset_race():
    assert sqlite3.sqlite_version_info >= (3, 51, 3)


def test_our_sqlite_is_the_module_that_sqlite_utils_takes():
    from sqlite_utils.utils import sqlite3 as theirs

    assert sqlite3 is theirs


def test_processes_that_only_store_or_read_are_not_made_larger_by_sqlite_utils():
    modules = (
        "appliance.worker, appliance.janitor, appliance.api.server, appliance.store.sqlite.reader"
    )
    look = f"import sys, {modules}; sys.exit('sqlite_utils' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", look], check=False).returncode == 0


def test_a_failed_migration_leaves_the_database_as_it_was(path, monkeypatch):
    monkeypatch.setattr(migrations, "_count", lambda: 99)
    broken = type(migrations._migrations)("appliance")
    for known in migrations._migrations.pending(plain_memory()):
        broken()(known.fn)

    @broken()
    def m099_breaks(db):
        db.execute("CREATE TABLE half (x)")
        db.execute("INSERT INTO nowhere VALUES (1)")

    migrate(path)
    monkeypatch.setattr(migrations, "_migrations", broken)
    with pytest.raises(StoreError, match="nowhere"):
        migrate(path)
    link = connect(path, readonly=True)
    tables = {row[0] for row in link.execute("SELECT name FROM sqlite_master")}
    link.close()
    assert "half" not in tables
    assert "messages" in tables


def plain_memory():
    import sqlite_utils

    return sqlite_utils.Database(memory=True)


def test_the_shell_of_any_sqlite_reads_it(path: Path):
    migrate(path)
    writer = SqliteWriter(path)  # so that there is a WAL
    code = "import sqlite3, sys; print(*sqlite3.connect(sys.argv[1]).execute(sys.argv[2]))"
    question = "SELECT count(*), (SELECT count(*) FROM topics) FROM messages"
    done = subprocess.run(
        [sys.executable, "-c", code, path, question], capture_output=True, text=True, check=True
    )
    assert done.stdout == "(0, 0)\n"
    writer.close()


def test_a_checkpoint_cuts_the_wal_and_says_who_is_in_the_way(path):
    migrate(path)
    writer = connect(path, readonly=False)
    writer.execute("INSERT INTO topics VALUES ('t', 1, 1, 'a', 'b')")
    wal = path.with_name(path.name + "-wal")
    assert wal.stat().st_size > 0
    reader = connect(path, readonly=True)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM topics").fetchone()
    assert checkpoint(path).busy
    reader.execute("COMMIT")
    reader.close()
    assert not checkpoint(path).busy
    assert wal.stat().st_size == 0
    writer.close()


def migrate_to(path, schema, monkeypatch):
    """Make the database of a program that knows so many migrations."""
    earlier = type(migrations._migrations)("appliance")
    for known in migrations._migrations.pending(plain_memory())[:schema]:
        earlier()(known.fn)
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "_migrations", earlier)
        patch.setattr(migrations, "_count", lambda: schema)
        assert len(migrate(path)) == schema


def test_dead_letters_of_an_earlier_schema_get_their_indexes(path, monkeypatch):
    migrate_to(path, 11, monkeypatch)
    link = connect(path, readonly=False)
    link.executemany(
        "INSERT INTO dead_letters (id, topic, body, reason, error, received_at, dead_at) "
        "VALUES (?, 't', x'00', ?, '', '', '')",
        [(str(n), "conflict" if n % 3 else "schema") for n in range(9)],
    )
    link.close()
    assert "m012_indexes_of_dead_letters" in migrate(path)
    link = connect(path, readonly=True)
    assert schema_check.examine(link).wrong == []
    assert link.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    link.close()
    assert StoredDeadLetters(file_database(path)).reasons() == [
        ("conflict", 6),
        ("schema", 3),
    ]


def test_a_database_of_an_earlier_schema_gets_tokens_and_keeps_its_rows(path, monkeypatch):
    """Schema 3 is that of the folders that exist: messages, dead letters, a ledger."""
    migrate_to(path, 3, monkeypatch)
    link = connect(path, readonly=False)
    link.execute(
        "INSERT INTO messages (id, topic, body, received_at) VALUES ('i', 't', 'b', 'now')"
    )
    link.close()
    assert "m005_access" in migrate(path)
    link = connect(path, readonly=True)
    assert link.execute("SELECT id, body FROM messages").fetchall() == [("i", "b")]
    assert link.execute("SELECT version FROM access_version").fetchall() == [(1,)]
    assert schema_check.examine(link).wrong == []
    link.close()


TIME = "2026-01-02T03:04:05.678Z"
#: Rows of tables, by the schema that brought the table: (table, columns, values).
ROWS = {
    1: [
        ("messages", "id, topic, body, received_at", ("a", "t", '{"n": 1}', TIME)),
        ("messages", "id, topic, body, received_at", ("b", "t", b"\x00\xff", TIME)),
        ("topics", "topic, messages, bytes, first_at, last_at", ("t", 2, 10, TIME, TIME)),
        (
            "dead_letters", "id, topic, body, reason, error, received_at, dead_at",
            ("c", "t", b"x", "conflict", "why", TIME, TIME),
        ),
    ],
    2: [
        (
            "sources", "source, accounted, settled, not_kept, missing, first_at, last_at",
            ("s", "[[1, 2]]", 2, 0, 0, TIME, TIME),
        )
    ],
    5: [
        ("tokens", "name, digest, rights, topics, created_at",
         ("till", b"d" * 32, '["publish"]', '["*"]', TIME)),
        ("inboxes", "name, topic, kind, settings, created_at", ("g", "t", "github", "{}", TIME)),
        ("audit", "at, who, address, action, target, details", (TIME, "w", "", "a", "t", "")),
    ],
    6: [("schemas", "topic, mode, schema, changed_at", ("t", "observe", "{}", TIME))],
    8: [("quarantine_losses", "cause, letters, bytes, last_at", ("age", 3, 9, TIME))],
    9: [
        ("sessions", "digest, token, name, address, agent, created_at, expires_at, last_used_at",
         (b"s" * 32, b"d" * 32, "till", "", "", TIME, "2999-01-01T00:00:00.000Z", TIME))
    ],
    10: [
        ("deletions", "id, selection, asked_at, who, address", ("d", '{"id":"x"}', TIME, "w", ""))
    ],
}  # fmt: skip


def tables_of(path):
    """Every row of the tables of ROWS that are there, in the columns of ROWS."""
    link = connect(path, readonly=True)
    try:
        there = {name for (name,) in link.execute("SELECT name FROM sqlite_master")}
        wanted = {(table, columns) for rows in ROWS.values() for table, columns, _ in rows}
        return {
            table: link.execute(f"SELECT {columns} FROM {table} ORDER BY 1").fetchall()
            for table, columns in wanted
            if table in there
        }
    finally:
        link.close()


@pytest.mark.parametrize("schema", range(8, 13))
def test_a_database_of_a_schema_before_comes_up_whole_with_all_its_rows(path, schema, monkeypatch):
    migrate_to(path, schema, monkeypatch)
    link = connect(path, readonly=False)
    for rows in (ROWS.get(number, []) for number in range(1, schema + 1)):
        for table, columns, values in rows:
            places = ", ".join("?" * len(values))
            link.execute(f"INSERT INTO {table} ({columns}) VALUES ({places})", values)
    before = tables_of(path)
    link.close()
    newer = migrations._migrations.pending(plain_memory())[schema:]
    assert migrate(path) == [each.name for each in newer]
    after = tables_of(path)
    assert {table: after[table] for table in before} == before
    assert all(rows == [] for table, rows in after.items() if table not in before)
    link = connect(path, readonly=True)
    assert schema_check.examine(link).wrong == []
    link.close()

    # What each of the changes is for can be done.
    store = open_store(configuration.load({"APPLIANCE_DATA": str(path.parent)}))
    by = Deed(Actor("w", ""), "a", "t", "")
    row = SessionRow(b"n" * 32, b"d" * 32, "till", "", "", TIME, "2999-01-01T00:00:00.000Z", TIME)
    store.access.create_session(row, by)
    assert row in store.access.sessions()
    selection = Selection(topic="t", where=("n=1",))
    store.deletions.ask(DeletionRow("new", QUEUED, selection, TIME, by.by, 0, 0, 0, None), by)
    assert store.deletions.find("new").selection == selection
    Indexer(path, is_on=True, floor=0, rest=lambda _: False).run()
    found = store.reader.find(MessageFilter(words=parse_words("n 1")), Span(), 10)
    assert [each.id for each in found.rows] == ["a"]
    store.history.add(HistoryPoint(60, 60.0, 5))
    assert store.history.points(0, 120, 60) == [HistoryPoint(60, 60.0, 5)]
    store.reader.close()
