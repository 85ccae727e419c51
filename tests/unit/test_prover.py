"""The prover proves the newest backup when that is due, and keeps what came of it."""

import contextlib
import json
import os
import threading
import time

import pytest
import ready_made

from appliance import config as configuration
from appliance.alerts.alert_conditions import AlertConditions
from appliance.errors import BackupError
from appliance.machine.pulse import Pulse
from appliance.model.ids import IdSource
from appliance.model.wire import single
from appliance.proofs import proof_book
from appliance.proofs.prover import Prover, proving
from appliance.store import open_store

TIME = "2026-01-02T03:04:05.678Z"
OLD, NEW, NEWER = (f"scheduled-20260102T03040{n}Z.db" for n in (5, 6, 7))
DAY = 86400.0
IDS = IdSource()


@pytest.fixture
def config(tmp_path):
    return configuration.load(
        {
            "APPLIANCE_DATA": str(tmp_path / "data"),
            "APPLIANCE_MIN_FREE_BYTES": "0",
            "APPLIANCE_BACKUP_PROVE_EVERY": "7d",
        }
    )


@pytest.fixture
def store(config):
    store = open_store(config)
    ready_made.migrate(store.path)
    writer = store.open_writer()
    writer.store([single("t", IDS.new(), TIME, b"%d" % n) for n in range(50)])
    writer.close()
    store.backup.make_folder()
    return store


@pytest.fixture
def prover(config, store):
    return Prover(config, store.backup, threading.Event())


def make(store, name):
    return store.backup.make(store.backup.folder / name, lambda _step, _share: True).path


def damage(path):
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def outcome(prover):
    last = prover.book.last
    return (last.backup, last.outcome) if last else None


def backup_alert(config, store):
    with contextlib.ExitStack() as stack:
        for process in ("api", "worker"):
            stack.enter_context(Pulse(config, process, environ={}))
        found = AlertConditions(config, store.reader).now()
    return [each.text for each in found if each.kind == "backup"]


def test_the_newest_backup_is_proven_and_the_outcome_outlives_a_restart(config, store, prover):
    make(store, OLD)
    make(store, NEW)
    prover.look(time.time())
    assert outcome(prover) == (NEW, proof_book.PROVEN)
    kept = Prover(config, store.backup, threading.Event()).book
    assert (kept.proven.backup, kept.proven.messages) == (NEW, 50)
    assert kept.proven.made_at == "2026-01-02T03:04:06.000Z"
    assert kept.restorable_at == kept.last.at
    gauges = prover.numbers().gauges
    assert gauges["backup_restorable_made_timestamp_seconds"] == 1767323046.0
    assert gauges["backup_restorable_timestamp_seconds"] == pytest.approx(time.time(), abs=60)


def test_nothing_is_proven_where_there_is_no_backup(prover):
    prover.look(time.time())
    assert outcome(prover) is None
    assert prover.numbers().gauges == {}
    assert prover.book.state() is None


def test_a_proof_is_made_again_only_when_its_time_has_come(store, prover):
    make(store, OLD)
    prover.look(time.time())
    make(store, NEW)
    prover.look(time.time() + 6.9 * DAY)
    assert outcome(prover) == (OLD, proof_book.PROVEN)
    prover.look(time.time() + 7.1 * DAY)
    assert outcome(prover) == (NEW, proof_book.PROVEN)


def test_a_backup_that_fails_is_an_alert_until_a_newer_one_is_proven(config, store, prover):
    make(store, OLD)
    prover.look(time.time())
    damage(make(store, NEW))
    prover.look(time.time() + 7.1 * DAY)
    assert outcome(prover) == (NEW, proof_book.FAILED)
    assert prover.book.proven.backup == OLD
    (text,) = backup_alert(config, store)
    assert NEW in text
    assert "is not sound" in text
    assert "appliance backup" in text
    make(store, NEWER)
    prover.look(time.time())
    assert outcome(prover) == (NEWER, proof_book.PROVEN)
    assert backup_alert(config, store) == []


def test_an_alert_of_a_backup_is_over_when_its_file_is_gone(config, store, prover):
    path = make(store, OLD)
    damage(path)
    prover.look(time.time())
    assert len(backup_alert(config, store)) == 1
    path.unlink()
    assert backup_alert(config, store) == []


def test_a_backup_that_was_proven_and_is_damaged_since_counts_no_more(store, prover):
    path = make(store, OLD)
    prover.look(time.time())
    damage(path)
    prover.look(time.time() + 8 * DAY)
    assert (outcome(prover), prover.book.restorable_at) == ((OLD, proof_book.FAILED), None)


def test_a_proof_without_room_is_not_attempted_says_so_and_comes_again(config, store, prover):
    make(store, OLD)
    scarce = configuration.load(
        {"APPLIANCE_DATA": str(config.data), "APPLIANCE_MIN_FREE_BYTES": str(2**49)}
    )
    short_of_room = Prover(scarce, open_store(scarce).backup, threading.Event())
    short_of_room.look(time.time())
    assert outcome(short_of_room) == (OLD, proof_book.NOT_ATTEMPTED)
    assert "no room to restore it" in short_of_room.book.last.reasons[0]
    assert backup_alert(config, store) == []
    prover.look(time.time() + 60)
    assert outcome(prover) == (OLD, proof_book.NOT_ATTEMPTED)
    prover.look(time.time() + 3601)
    assert outcome(prover) == (OLD, proof_book.PROVEN)


def test_a_proof_that_is_told_to_stop_is_no_outcome(config, store):
    make(store, OLD)
    stop = threading.Event()
    stop.set()
    prover = Prover(config, store.backup, stop)
    with pytest.raises(BackupError, match="stopped"):
        prover.look(time.time())
    assert proof_book.read(config).last is None
    prover.attempt()  # the thread says nothing of it


def test_a_prover_that_starts_removes_what_a_killed_one_left(config, store):
    scratch = config.data / ".appliance-proof"
    scratch.mkdir()
    (scratch / "appliance.db").write_bytes(b"x" * 100)
    with proving(config, store.backup):
        end = time.monotonic() + 20
        while scratch.exists() and time.monotonic() < end:
            time.sleep(0.01)
    assert not scratch.exists()


def test_a_thread_of_lowest_priority_is_the_only_one_that_has_it():
    from appliance.machine.priority import lower_this_thread

    seen = []

    def run():
        lower_this_thread()
        seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [19]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before


@pytest.mark.parametrize("text", ["", "no json", "{}", '{"proven": 5, "last": 7}', "[]"])
def test_a_book_that_another_program_wrote_is_taken_for_none(config, store, text):
    (config.data / "backup-proof.json").write_text(text)
    assert proof_book.read(config).state() is None


def test_a_book_is_readable_by_its_owner_only(config, store, prover):
    make(store, OLD)
    prover.look(time.time())
    path = config.data / "backup-proof.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_text())["last"]["outcome"] == "proven"
