"""Backups, made while the store is in use, and restores of them."""

import os
import stat
import time

import pytest
from flask_app import app_of
from store_contents import Contents, letter, lines, many, one

from appliance.errors import BackupBusyError, BackupError, BackupRoomError, InUseError, StoreError
from appliance.store import open_store


@pytest.fixture
def engine():
    """PostgreSQL's own tools make its backups (see test_upkeep_of_postgresql)."""
    return "sqlite"


def verified(store):
    return store.verify(quick=False, alone=True, progress=lambda *_: None)


def go_on(_step, _share):
    return True


@pytest.fixture
def target(tmp_path):
    return tmp_path / "copies" / "copy"


@pytest.fixture
def backups(store, writer, target):
    """Backups of a store that holds 100 messages of random bytes."""
    target.parent.mkdir()
    writer.store([one(os.urandom(1000)) for _ in range(100)])
    return store.backup


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def messages_in(store, file):
    return [row[1:] for row in store.of_backup(file).rows()]


def large(writer):
    """Make copying take so long that the progress is shown meanwhile."""
    for _ in range(4):
        writer.store([many([os.urandom(200) for _ in range(5000)])])


def test_a_backup_has_every_message_and_is_for_its_owner_only(store, backups, target):
    backup = backups.make(target, go_on)
    assert (backup.path, backup.messages, backup.bytes) == (target, 100, target.stat().st_size)
    assert messages_in(store, target) == messages_in(store, store.health.files()[0])
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert names(target.parent) == ["copy"]


def test_a_backup_is_of_one_moment_though_the_writer_goes_on(store, writer, backups, target):
    large(writer)
    before = store.reader.totals().messages

    def write(_step, _share):
        writer.store([one(b"meanwhile")])
        return True

    backup = backups.make(target, write)
    result = store.of_backup(target).verify(quick=False, alone=True, progress=lambda *_: None)
    assert backup.messages == result.messages.rows >= before
    assert result.problems == []
    assert store.reader.totals().messages > backup.messages


def test_a_file_that_is_there_is_never_written_over(backups, target):
    target.write_text("mine")
    with pytest.raises(BackupError, match="is there already"):
        backups.make(target, go_on)
    assert target.read_text() == "mine"


def test_without_a_database_there_is_nothing_to_copy(new_store, tmp_path):
    with pytest.raises(BackupError, match="nothing to copy"):
        new_store.backup.make(tmp_path / "copy", go_on)
    assert not (tmp_path / "copy").exists()


def test_a_folder_that_is_not_there_is_named(backups, tmp_path):
    with pytest.raises(BackupError, match="No such file"):
        backups.make(tmp_path / "away" / "copy", go_on)


def test_a_backup_that_would_not_leave_the_floor_free_is_refused_in_words(load, backups, target):
    full = open_store(load(min_free_bytes="1000000GiB")).backup
    with pytest.raises(BackupRoomError, match="no room for a copy of"):
        full.make(target, go_on)
    assert names(target.parent) == []


def test_a_second_backup_at_the_same_time_is_refused(writer, backups, target):
    refusals = []

    def meanwhile(_step, _share):
        if not refusals:
            with pytest.raises(BackupBusyError) as caught:
                backups.make(target.with_name("other"), go_on)
            refusals.append(caught)
        return True

    large(writer)
    backups.make(target, meanwhile)
    assert refusals
    assert names(target.parent) == ["copy"]


@pytest.mark.parametrize("when", ["copying", "checking"])
def test_a_backup_that_is_stopped_leaves_nothing(writer, backups, target, when):
    large(writer)
    steps = []

    def until(step, _share):
        steps.append(step)
        return step != when

    with pytest.raises(BackupError, match="stopped"):
        backups.make(target, until)
    assert steps[-1] == when
    assert names(target.parent) == []


def test_a_download_has_no_name_and_makes_its_folder(backups):
    with backups.download(go_on) as copy:
        assert names(backups.folder) == []
        assert len(copy.read()) > 100_000


def test_scheduled_backups_are_deleted_oldest_first_and_no_other_file(backups):
    backups.make_folder()
    now = backups.name(scheduled=True)
    stamp = now.split("-")[1].split(".")[0]
    ours = [now.replace(stamp, f"2026010{day}T000000Z") for day in range(1, 6)]
    others = [backups.name(), now.replace(stamp, "mine"), "notes.txt"]
    for name in [*ours, *others]:
        (backups.folder / name).touch()
    assert [path.name for path in backups.prune(2)] == ours[:3]
    assert names(backups.folder) == sorted([*ours[3:], *others])
    assert backups.prune(2) == []


def test_a_scheduled_backups_name_says_when_it_was_made(backups):
    backups.make_folder()
    (backups.folder / backups.name(scheduled=True)).touch()
    ((moment, _),) = backups.scheduled()
    assert abs(moment - time.time()) < 60
    assert time.strftime("%Y%m%d", time.gmtime()) in backups.name()


def test_the_api_answers_in_words_where_there_is_no_room_for_a_backup(load, backups):
    config = load(min_free_bytes="1000000GiB")
    answer = app_of(config).test_client().get("/v1/backup")
    assert answer.status_code == 507
    assert "no room for a copy" in answer.json["detail"]
    assert str(config.data) not in answer.text


# --- restores


@pytest.fixture
def copy(backups, target, writer):
    path = backups.make(target, go_on).path
    writer.close()
    return path


def restore(store, copy):
    with store.restore(copy, go_on) as restoration:
        return restoration, restoration.put_in_place()


def store_more(store, *more):
    writer = store.open_writer()
    writer.store(more)
    writer.close()


def test_a_restored_store_has_the_backups_messages_and_counts_those_it_left(store, copy):
    store_more(store, one(b"1"), one(b"2"), letter())
    restoration, replaced = restore(store, copy)
    assert (restoration.messages, restoration.trouble) == (100, "")
    assert (restoration.left_messages, restoration.left_dead_letters) == (2, 1)
    assert replaced.exists()
    contents = Contents(store)
    assert len(contents.messages()) == 100
    assert contents.letters() == []
    assert contents.counters() == contents.sums()


def test_a_restored_store_never_uses_a_row_number_twice(store, copy):
    store_more(store, *(one() for _ in range(5)))
    restore(store, copy)
    store_more(store, one(b"next"))
    assert Contents(store).messages()[-1].seq == 106


def test_a_restored_store_notes_what_it_left(store, copy):
    store_more(store, one())
    restore(store, copy)
    result = store.verify(quick=True, alone=False, progress=lambda *_: None)
    assert result.problems == []
    assert "left 1 messages and 0 dead letters" in result.notes[0]


def test_a_restoration_that_is_not_put_in_place_changes_nothing(store, copy):
    store_more(store, one())
    before = names(copy.parent)
    with store.restore(copy, go_on) as restoration:
        assert restoration.left_messages == 1
    assert len(Contents(store).messages()) == 101
    assert names(copy.parent) == before


def test_a_backup_is_restored_where_there_is_no_database(load, copy, tmp_path):
    elsewhere = load(data=str(tmp_path / "new" / "data"), min_free_bytes="0")
    store = open_store(elsewhere)
    restoration, replaced = restore(store, copy)
    assert (restoration.left_messages, replaced) == (None, None)
    assert len(Contents(store).messages()) == 100
    store.reader.close()


def test_a_store_in_use_is_not_replaced(store, copy):
    with (
        store.in_use(),
        pytest.raises(InUseError, match="stop the appliance first"),
        store.restore(copy, go_on),
    ):
        pass


def test_a_file_that_is_no_backup_is_refused_and_changes_nothing(store, copy):
    copy.write_text("somebody's notes\n" * 100)
    with pytest.raises(StoreError):
        restore(store, copy)
    assert len(Contents(store).messages()) == 100


def test_a_backup_that_is_away_is_refused(store, copy, tmp_path):
    with pytest.raises(BackupError, match="can't be read"):
        restore(store, tmp_path / "none")


def test_a_restore_without_room_changes_nothing(load, store, copy):
    full = open_store(load(min_free_bytes="1000000GiB"))
    with pytest.raises(BackupRoomError):
        restore(full, copy)
    assert len(Contents(store).messages()) == 100


def test_a_store_is_not_restored_from_itself(store, copy):
    with pytest.raises(BackupError, match="the database itself"):
        restore(store, store.health.files()[0])


def test_a_restored_store_is_read_by_connections_that_were_open(store, copy):
    store_more(store, one(b"later"))
    assert store.reader.totals().messages == 101
    restore(store, copy)
    assert store.reader.totals().messages == 100


def test_backups_that_are_kept_are_listed_the_newest_first_and_nothing_else(backups):
    backups.make_folder()
    made = backups.make(backups.folder / backups.name(), go_on)
    for name in ("scheduled-20260101T000000Z.db", "appliance-20270101T000000Z.db"):
        (backups.folder / name).write_bytes(b"x")
    for name in ("token", "scheduled-nonsense.db", ".appliance-20260101T000000Z.db.part", "a.db"):
        (backups.folder / name).write_bytes(b"x")
    kept = backups.kept()
    assert [each.name for each in kept] == [
        "appliance-20270101T000000Z.db", made.path.name, "scheduled-20260101T000000Z.db",
    ]  # fmt: skip
    assert [each.scheduled for each in kept] == [False, False, True]
    assert kept[1].bytes == made.bytes


def test_a_folder_without_backups_lists_none(backups):
    assert backups.kept() == []


def test_a_store_that_is_in_use_is_not_restored(store, config, tmp_path):
    copy = store.backup.make(tmp_path / "copy", lambda *_: True).path
    other = open_store(config)
    with (
        store.in_use(),
        pytest.raises(InUseError),
        other.restore(copy, lambda *_: True),
    ):
        pass


def test_the_store_of_a_backup_is_verified_like_the_store(store, writer, tmp_path):
    writer.store([lines([b"a", b"b"])])
    copy = store.backup.make(tmp_path / "copy", lambda *_: True)
    result = verified(store.of_backup(copy.path))
    assert (result.problems, result.messages.rows) == ([], 2)
    with pytest.raises(StoreError):
        verified(store.of_backup(tmp_path / "none"))
