"""Copies of the database, on real files."""

import fcntl
import os
import stat
import time
from datetime import UTC, datetime

import pytest
from flask_app import app_of

from appliance import config as configuration
from appliance.errors import BackupBusyError, BackupError, BackupRoomError
from appliance.model.ids import IdSource
from appliance.model.wire import single
from appliance.store.sqlite import backup
from appliance.store.sqlite.connection import connect, sqlite3
from appliance.store.sqlite.migrations import migrate
from appliance.store.sqlite.writer import Writer

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
    backup.make_folder(folder, path)
    return folder


def store(path, count, size=1000):
    writer = Writer(path)
    writer.store([single("t", IDS.new(), TIME, os.urandom(size)) for _ in range(count)])
    writer.close()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def rows(path):
    link = connect(path, readonly=True)
    try:
        return link.execute("SELECT * FROM messages").fetchall()
    finally:
        link.close()


def test_a_copy_has_every_row_and_is_for_its_owner_only(path, folder):
    made = backup.make(path, folder / "copy.db", 0)
    assert (made.messages, made.bytes) == (100, made.path.stat().st_size)
    assert rows(made.path) == rows(path)
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert names(folder) == ["copy.db"]


def test_a_copy_needs_no_file_beside_it_and_can_shrink_like_the_original(path, folder):
    made = backup.make(path, folder / "copy.db", 0)
    link = sqlite3.connect(made.path)
    assert link.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert link.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    assert link.execute("PRAGMA page_size").fetchone() == (8192,)
    link.close()


def test_a_file_that_is_there_is_never_written_over(path, folder):
    (folder / "copy.db").write_text("mine")
    with pytest.raises(BackupError, match="is there already"):
        backup.make(path, folder / "copy.db", 0)
    assert (folder / "copy.db").read_text() == "mine"


def test_without_a_database_there_is_nothing_to_copy(tmp_path):
    with pytest.raises(BackupError, match="nothing to copy"):
        backup.make(tmp_path / "appliance.db", tmp_path / "copy.db", 0)
    assert names(tmp_path) == []


def test_a_folder_that_is_not_there_is_named(path, tmp_path):
    with pytest.raises(BackupError, match="No such file"):
        backup.make(path, tmp_path / "away" / "copy.db", 0)


def test_a_copy_that_would_not_leave_the_floor_free_is_refused_in_words(path, folder):
    with pytest.raises(BackupRoomError, match="no room for a copy of"):
        backup.make(path, folder / "copy.db", 2**62)
    assert names(folder) == []


def test_a_second_copy_at_the_same_time_is_refused(path, folder):
    second = []

    def meanwhile(_what, _done):
        if not second:
            with pytest.raises(BackupBusyError) as caught:
                backup.make(path, folder / "other.db", 0)
            second.append(caught)
        return True

    store(path, 20_000, 200)
    backup.make(path, folder / "copy.db", 0, meanwhile)
    assert second
    assert names(folder) == ["copy.db"]


@pytest.mark.parametrize("when", ["copying", "checking"])
def test_a_copy_that_is_stopped_leaves_nothing(path, folder, when):
    store(path, 20_000, 200)
    seen = []

    def until(what, _done):
        seen.append(what)
        return what != when

    with pytest.raises(BackupError, match="stopped"):
        backup.make(path, folder / "copy.db", 0, until)
    assert seen[-1] == when
    assert names(folder) == []


def test_a_damaged_database_makes_no_copy(path, folder):
    link = sqlite3.connect(path)
    link.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    link.close()
    with path.open("r+b") as file:
        file.seek(8192 * 5)
        file.write(b"\xff" * 8192 * 4)
    with pytest.raises(backup.StoreError):
        backup.make(path, folder / "copy.db", 0)
    assert names(folder) == []


def test_a_download_has_no_name(path, folder):
    with backup.download(path, folder, 0) as copy:
        assert names(folder) == []
        assert copy.read(16) == b"SQLite format 3\0"


def test_what_a_killed_process_left_is_removed_but_not_what_one_still_writes(path, folder):
    (folder / ".appliance-1.db.part").write_text("left")
    with (folder / ".appliance-2.db.part").open("w") as written:
        fcntl.flock(written, fcntl.LOCK_EX)
        backup.make_folder(folder, path)
        assert names(folder) == [".appliance-2.db.part"]


def test_only_the_oldest_scheduled_copies_are_deleted(folder):
    ours = [f"scheduled-2026010{day}T000000Z.db" for day in range(1, 6)]
    others = ["appliance-20250101T000000Z.db", "scheduled-mine.db", "notes.txt"]
    for each in [*ours, *others]:
        (folder / each).touch()
    assert [p.name for p in backup.prune(folder, 2)] == ours[:3]
    assert names(folder) == sorted([*ours[3:], *others])
    assert backup.prune(folder, 2) == []


def test_a_copys_name_tells_when_it_was_made(folder):
    (folder / backup.name(scheduled=True)).touch()
    ((moment, _),) = backup.scheduled(folder)
    assert abs(moment - time.time()) < 60
    assert datetime.now(UTC).strftime("appliance-%Y%m%d") in backup.name()


def test_where_there_is_no_room_the_api_says_so_in_words(path):
    config = configuration.load(
        {"APPLIANCE_DATA": str(path.parent), "APPLIANCE_MIN_FREE_BYTES": "1000000GiB"}
    )
    answer = app_of(config).test_client().get("/v1/backup")
    assert answer.status_code == 507
    assert "no room for a copy" in answer.json["detail"]
    assert str(path.parent) not in answer.text
