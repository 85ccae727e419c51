"""Proofs of a backup: it is restored beside the database, verified, and compared with it."""

import os
import shutil

import pytest
from ready_made import migrate

from appliance.errors import BackupBusyError, BackupError, BackupRoomError
from appliance.machine import locks
from appliance.model.contents import DeadLetter
from appliance.model.ids import IdSource
from appliance.model.wire import single
from appliance.store.sqlite import paths
from appliance.store.sqlite.backup import SqliteBackups
from appliance.store.sqlite.database import sqlite3
from appliance.store.sqlite.writer import SqliteWriter

TIME = "2026-01-02T03:04:05.678Z"
SOURCE = "0123456789abcdef"
IDS = IdSource()
PAGE = 8192


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "data" / "appliance.db"
    migrate(path)
    store(path, 200)
    return path


@pytest.fixture
def copy(path, tmp_path):
    return backups(path).make(tmp_path / "appliance-20260102T030405Z.db", go_on).path


def store(path, count, *more):
    writer = SqliteWriter(path)
    writer.store([*(single("t", IDS.new(), TIME, os.urandom(300)) for _ in range(count)), *more])
    writer.close()


def backups(path, floor=0):
    return SqliteBackups(path, path.parent / "backups", floor)


def go_on(_step, _share):
    return True


def run(path, *statements):
    link = sqlite3.connect(path, isolation_level=None)
    for sql in statements:
        link.execute(sql)
    link.close()


def account(path, text, settled, missing=0):
    run(
        path,
        "INSERT OR REPLACE INTO sources (source, accounted, settled, not_kept, missing, first_at, "
        f"last_at) VALUES ('{SOURCE}', '{text}', {settled}, 0, {missing}, '{TIME}', '{TIME}')",
    )


def prove(path, copy, progress=go_on, floor=0):
    return backups(path, floor).prove(copy, progress)


def left(path):
    return [each.name for each in path.parent.iterdir() if each.is_dir()]


def test_a_backup_is_proven_and_no_scratch_is_left(path, copy):
    before = copy.read_bytes()
    proof = prove(path, copy)
    assert (proof.faults, proof.messages, proof.compared) == ([], 200, 200)
    assert proof.is_proven
    assert proof.backup == copy.name
    assert copy.read_bytes() == before
    assert left(path) == []


def test_a_backup_is_proven_beside_messages_that_came_and_went_since(path, copy):
    store(path, 50, DeadLetter("t", IDS.new(), TIME, b"x", "undecodable", "why"))
    run(path, "DELETE FROM messages WHERE seq <= 20")
    proof = prove(path, copy)
    assert (proof.faults, proof.compared) == ([], 180)


def test_a_flipped_page_of_a_backup_is_a_fault(path, copy):
    with copy.open("r+b") as file:
        file.seek(copy.stat().st_size // 2 // PAGE * PAGE)
        file.write(os.urandom(PAGE))
    proof = prove(path, copy)
    assert not proof.is_proven
    assert "is not sound" in proof.faults[0]
    assert "\n" not in proof.faults[0]
    assert left(path) == []


def test_a_truncated_backup_is_a_fault(path, copy):
    with copy.open("r+b") as file:
        file.truncate(copy.stat().st_size // 2)
    assert "is not sound" in prove(path, copy).faults[0]


def test_a_backup_that_is_no_database_is_a_fault(path, copy):
    copy.write_bytes(b"hello")
    assert "is not a SQLite database" in prove(path, copy).faults[0]


def test_rows_that_a_backup_lacks_are_a_fault_though_its_counters_agree(path, copy):
    run(
        copy,
        "DELETE FROM messages WHERE seq BETWEEN 50 AND 59",
        "UPDATE topics SET messages = (SELECT count(*) FROM messages), "
        "bytes = (SELECT sum(octet_length(body)) FROM messages)",
    )
    faults = prove(path, copy).faults
    assert len(faults) == 1
    assert "are not in the backup: 10, the first one" in faults[0]


def test_rows_that_a_backup_lacks_are_a_fault_though_the_database_has_none_of_them(path, copy):
    run(
        copy,
        "DELETE FROM messages WHERE seq BETWEEN 50 AND 59",
        "UPDATE topics SET messages = 200",
    )
    run(path, "DELETE FROM messages")
    assert prove(path, copy).faults == [
        "the topic t has 190 messages in the backup and should have 200, by its counters"
    ]


def test_a_row_that_differs_in_a_backup_is_a_fault(path, copy):
    run(copy, "UPDATE messages SET body = zeroblob(octet_length(body)) WHERE seq = 7")
    faults = prove(path, copy).faults
    assert len(faults) == 1
    assert "differ in it: 1, the first one" in faults[0]


def test_a_dead_letter_that_a_backup_lacks_is_a_fault(path, tmp_path):
    store(path, 0, DeadLetter("t", IDS.new(), TIME, b"x", "undecodable", "why"))
    copy = backups(path).make(tmp_path / "copy.db", go_on).path
    run(copy, "DELETE FROM dead_letters")
    assert "dead letters that were stored before" in prove(path, copy).faults[0]


def test_a_delayed_message_that_a_backup_lacks_is_a_fault(path, tmp_path):
    run(
        path,
        "INSERT INTO delayed_messages (id, topic, body, accepted_at, due_at) "
        f"VALUES ('{IDS.new()}', 't', 'x', '{TIME}', '{TIME}')",
    )
    copy = backups(path).make(tmp_path / "copy.db", go_on).path
    run(path, f"UPDATE delayed_messages SET cancelled_at = '{TIME}', due_at = '', body = ''")
    assert prove(path, copy).faults == []
    run(copy, "DELETE FROM delayed_messages")
    assert "delayed messages that were stored before" in prove(path, copy).faults[0]


@pytest.mark.parametrize(
    ("text", "settled", "word"),
    [
        ("[[1, 900]]", 900, "not a backup of this database"),
        ("[[1, 10]]", 50, "lacks 40 envelopes"),
        ("[[1, 1", 50, "can't be read"),
    ],
)
def test_a_ledger_of_a_backup_that_is_wrong_is_a_fault(path, copy, text, settled, word):
    account(path, "[[1, 100]]", 100)
    account(copy, text, settled)
    assert any(word in fault for fault in prove(path, copy).faults)


def test_a_loss_that_the_database_knows_is_no_fault_of_its_backup(path, tmp_path):
    account(path, "[[1, 10], [12, 20]]", 20, missing=1)
    copy = backups(path).make(tmp_path / "copy.db", go_on).path
    assert prove(path, copy).faults == []


def test_a_backup_of_another_database_is_a_fault(path, tmp_path):
    other = tmp_path / "other" / "appliance.db"
    migrate(other)
    store(other, 5)
    copy = backups(other).make(tmp_path / "other.db", go_on).path
    assert "differ in it: 5" in prove(path, copy).faults[0]


def test_a_backup_is_proven_alone_where_there_is_no_database(path, copy, tmp_path):
    (tmp_path / "empty").mkdir()
    proof = prove(tmp_path / "empty" / "appliance.db", copy)
    assert (proof.faults, proof.compared) == ([], None)
    assert proof.notes == ["there is no present database to compare it with"]


def test_a_proof_is_not_begun_where_there_is_no_room_for_it(path, copy):
    with pytest.raises(BackupRoomError, match="no room to restore it"):
        prove(path, copy, floor=shutil.disk_usage(path.parent).free)
    assert left(path) == []


def test_a_proof_that_is_stopped_leaves_no_scratch(path, copy):
    steps = []

    def stop(step, _share):
        steps.append(step)
        return step not in ("comparing", "ledger")

    with pytest.raises(BackupError, match="was stopped"):
        prove(path, copy, stop)
    assert steps
    assert left(path) == []


def test_a_missing_file_is_no_fault_of_a_backup(path):
    with pytest.raises(BackupError, match="is not there"):
        prove(path, path.parent / "none.db")


def test_a_scratch_folder_that_a_killed_proof_left_is_removed_and_a_live_one_stays(path):
    scratch = path.parent / ".appliance-proof"
    scratch.mkdir()
    (scratch / "appliance.db").write_bytes(b"x")
    with locks.held(paths.with_suffix(path, ".proof")):
        backups(path).clear_proof()
        assert left(path) == [scratch.name]
    backups(path).clear_proof()
    assert left(path) == []


def test_one_backup_is_proven_at_a_time(path, copy):
    with locks.held(paths.with_suffix(path, ".proof")), pytest.raises(BackupBusyError):
        prove(path, copy)
