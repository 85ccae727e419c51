"""Restores of a SQLite file; `tests/store` holds every engine's restores to the contract."""

import os

import pytest

from appliance.errors import BackupError, InUseError, SchemaError
from appliance.model.contents import DeadLetter
from appliance.model.ids import IdSource
from appliance.model.wire import single
from appliance.store.sqlite import migrations, restore, usage
from appliance.store.sqlite.backup import SqliteBackups
from appliance.store.sqlite.database import connect, sqlite3
from appliance.store.sqlite.migrations import migrate
from appliance.store.sqlite.verify import verify
from appliance.store.sqlite.writer import SqliteWriter

TIME = "2026-01-02T03:04:05.678Z"
IDS = IdSource()


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "data" / "appliance.db"
    migrate(path)
    store(path, 10)
    return path


@pytest.fixture
def copy(path, tmp_path):
    return SqliteBackups(path, tmp_path, 0).make(tmp_path / "copy.db", go_on).path


def store(path, count, *more):
    writer = SqliteWriter(path)
    writer.store([*(single("t", IDS.new(), TIME, b"%d" % n) for n in range(count)), *more])
    writer.close()


def dead():
    return DeadLetter("t", IDS.new(), TIME, b"x", "undecodable", "why")


def ask(path, sql):
    link = connect(path, readonly=True)
    try:
        return link.execute(sql).fetchall()
    finally:
        link.close()


def run(path, sql):
    link = sqlite3.connect(path, isolation_level=None)
    link.execute(sql)
    link.close()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def go_on(_what, _done):
    return True


def put(copy, path, floor=0):
    with restore.prepared(copy, path, floor, go_on) as ready:
        return ready, ready.put_in_place()


def test_a_copy_takes_the_place_and_the_replaced_database_stays_beside_it(path, copy):
    store(path, 5, dead())
    ready, kept = put(copy, path)
    assert (ready.messages, ready.left_messages, ready.left_dead_letters) == (10, 5, 1)
    assert ask(path, "SELECT count(*) FROM messages") == [(10,)]
    assert ask(kept, "SELECT count(*) FROM messages") == [(15,)]
    assert ask(path, "PRAGMA integrity_check") == [("ok",)]
    assert ask(path, "PRAGMA journal_mode") == [("wal",)]
    assert ask(path, "PRAGMA auto_vacuum") == [(2,)]
    assert path.stat().st_mode & 0o777 == 0o600
    assert not [name for name in names(path.parent) if name.startswith(".")]


def test_envelopes_that_came_since_the_copy_are_accounted_for(path, copy):
    run(path, "INSERT INTO sources VALUES ('a', '[[1, 9]]', 9, 0, 0, 0, 'now', 'now')")
    put(copy, path)
    assert ask(path, "SELECT source, accounted FROM sources") == [("a", "[[1, 9]]")]


def test_the_restored_database_tells_where_what_came_since_is(path, copy, monkeypatch):
    store(path, 5)
    _, first = put(copy, path)
    store(path, 1)
    monkeypatch.setattr(restore, "_STAMP", "later")
    _, second = put(copy, path)
    sql = "SELECT replaced, left_messages, source FROM restores ORDER BY restored_at"
    assert ask(path, sql) == [(first.name, 5, str(copy)), (second.name, 1, str(copy))]
    found = verify(path, quick=True, alone=False, progress=lambda *_: None)
    assert found.problems == []
    assert f"left 5 messages and 0 dead letters in {first.name}" in found.notes[0]


def test_commits_that_are_only_in_the_wal_are_kept_with_the_replaced_database(path, copy):
    """A process that was killed leaves a WAL with commits in it."""
    if not (pid := os.fork()):
        writer = SqliteWriter(path)
        writer.store([single("t", IDS.new(), TIME, b"last")])
        os._exit(0)
    os.waitpid(pid, 0)
    assert path.with_name("appliance.db-wal").stat().st_size > 0
    ready, kept = put(copy, path)
    assert ready.left_messages == 1
    assert ask(kept, "SELECT count(*) FROM messages") == [(11,)]
    assert ask(path, "SELECT count(*) FROM messages") == [(10,)]


def test_a_present_database_that_is_damaged_is_replaced_and_kept_byte_for_byte(path, copy):
    path.write_bytes(b"\xff" * 20_000)
    path.with_name("appliance.db-wal").write_bytes(b"its wal")
    ready, kept = put(copy, path)
    assert ready.trouble
    assert kept.read_bytes() == b"\xff" * 20_000
    assert kept.with_name(kept.name + "-wal").read_bytes() == b"its wal"
    assert ask(path, "SELECT count(*) FROM messages") == [(10,)]


def test_a_database_is_not_used_while_it_is_restored(path, copy):
    with (
        restore.prepared(copy, path, 0, go_on),
        pytest.raises(InUseError, match="being restored"),
        usage.shared(path, patience=0.1),
    ):
        pass


def damage(copy):
    with copy.open("r+b") as file:
        file.seek(8192 * 3)
        file.write(b"\xff" * 8192)


REFUSED = {
    "damaged": (damage, BackupError, "not sound"),
    "cut short": (lambda copy: os.truncate(copy, 8192 * 3), BackupError, "not sound"),
    "empty": (lambda copy: os.truncate(copy, 0), BackupError, "not a SQLite database"),
    "no database": (lambda copy: copy.write_text("x" * 99), BackupError, "not a SQLite database"),
    "away": (lambda copy: copy.unlink(), BackupError, "can't be read"),
    "not ours": (lambda copy: run(copy, "DROP TABLE topics"), BackupError, "not a database of the"),
    "newer": (lambda copy: run(copy, "PRAGMA user_version = 999"), SchemaError, "newer"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_can_not_be_restored_is_refused_and_nothing_is_changed(path, copy, case):
    spoil, error, words = REFUSED[case]
    spoil(copy)
    before = names(path.parent)
    with pytest.raises(error, match=words):
        put(copy, path)
    assert set(names(path.parent)) - set(before) <= {"appliance.db.lock"}
    assert ask(path, "SELECT count(*) FROM messages") == [(10,)]


def test_an_older_copy_is_migrated(path, tmp_path, monkeypatch):
    old = tmp_path / "old" / "appliance.db"
    with monkeypatch.context() as patch:
        first = migrations.Migrations("appliance")
        first()(migrations.m001_messages_topics_and_dead_letters)
        patch.setattr(migrations, "_migrations", first)
        migrations._count.cache_clear()
        migrate(old)
    migrations._count.cache_clear()
    run(old, "INSERT INTO messages VALUES (1, 'i', 't', 'b', 'now')")
    ready, _ = put(old, path)
    assert "m002" in ready.migrated[0]
    assert ask(path, "SELECT id FROM messages") == [("i",)]
    store(path, 1)
