"""Backups of a SQLite file; `tests/store` holds every engine's backups to the contract."""

import fcntl
import os
import stat

import pytest

from appliance.errors import StoreError
from appliance.model.ids import IdSource
from appliance.model.wire import single
from appliance.store.sqlite.backup import SqliteBackups
from appliance.store.sqlite.database import connect, sqlite3
from appliance.store.sqlite.migrations import migrate
from appliance.store.sqlite.writer import SqliteWriter

TIME = "2026-01-02T03:04:05.678Z"
IDS = IdSource()


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "data" / "appliance.db"
    migrate(path)
    store(path, 100)
    return path


@pytest.fixture
def folder(path):
    folder = path.parent / "backups"
    backups(path).make_folder()
    return folder


def store(path, count, size=1000):
    writer = SqliteWriter(path)
    writer.store([single("t", IDS.new(), TIME, os.urandom(size)) for _ in range(count)])
    writer.close()


def backups(path, floor=0):
    return SqliteBackups(path, path.parent / "backups", floor)


def go_on(_step, _share):
    return True


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def rows(path):
    link = connect(path, readonly=True)
    try:
        return link.execute("SELECT * FROM messages").fetchall()
    finally:
        link.close()


def test_a_copy_has_every_row_and_is_for_its_owner_only(path, folder):
    made = backups(path, 0).make(folder / "copy.db", go_on)
    assert (made.messages, made.bytes) == (100, made.path.stat().st_size)
    assert rows(made.path) == rows(path)
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert names(folder) == ["copy.db"]


def test_a_copy_needs_no_file_beside_it_and_can_shrink_like_the_original(path, folder):
    made = backups(path, 0).make(folder / "copy.db", go_on)
    link = sqlite3.connect(made.path)
    assert link.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert link.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    assert link.execute("PRAGMA page_size").fetchone() == (8192,)
    link.close()


def test_a_damaged_database_makes_no_copy(path, folder):
    link = sqlite3.connect(path)
    link.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    link.close()
    with path.open("r+b") as file:
        file.seek(8192 * 5)
        file.write(b"\xff" * 8192 * 4)
    with pytest.raises(StoreError):
        backups(path, 0).make(folder / "copy.db", go_on)
    assert names(folder) == []


def test_a_download_has_no_name(path, folder):
    with backups(path).download(go_on) as copy:
        assert names(folder) == []
        assert copy.read(16) == b"SQLite format 3\0"


def test_a_draft_of_a_killed_process_is_removed_and_one_in_writing_stays(path, folder):
    (folder / ".appliance-1.db.part").write_text("left")
    with (folder / ".appliance-2.db.part").open("w") as written:
        fcntl.flock(written, fcntl.LOCK_EX)
        backups(path).make_folder()
        assert names(folder) == [".appliance-2.db.part"]
