"""A chore: one at a time, in the background, its last outcome kept."""

import json
import subprocess
import sys
import threading

import pytest
from harness import wait_until

from appliance.errors import BackupRoomError, StoreError
from appliance.operations.chore import Chore


def test_a_chore_is_under_way_once_and_tells_how_far_it_is(tmp_path):
    on, going = threading.Event(), threading.Event()

    def work(report):
        report("copying", 0.25)
        going.set()
        assert on.wait(30)
        return {"ok": True}

    chore = Chore("copy", work, tmp_path)
    assert chore.state() == {"running": None, "last": None}
    assert chore.begin("ann")
    assert going.wait(30)
    assert not chore.begin("bob")
    assert not chore.wait(0)
    running = chore.running
    assert (running.by, running.step, running.share) == ("ann", "copying", 0.25)
    on.set()
    assert chore.wait(30)
    assert chore.running is None
    assert (chore.last.by, chore.last.result, chore.last.error) == ("ann", {"ok": True}, None)
    assert chore.begin("bob")
    assert chore.wait(30)
    assert chore.last.by == "bob"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (BackupRoomError("no room for 5 bytes"), "no room for 5 bytes"),
        (StoreError("/a/path: locked"), StoreError().public),
        (ValueError("a bug"), "it failed; the appliance's log has the details"),
    ],
)
def test_a_chore_that_fails_says_so_without_the_inside_and_can_be_begun_again(
    tmp_path, error, words
):
    fails = [True]

    def work(_report):
        if fails:
            raise error
        return {}

    chore = Chore("copy", work, tmp_path)
    chore.begin("ann")
    assert chore.wait(30)
    assert (chore.last.result, chore.last.error) == (None, words)
    if not isinstance(error, ValueError):
        with pytest.raises(type(error)):
            chore.fail()
    fails.clear()
    chore.begin("ann")
    assert chore.wait(30)
    assert chore.last.error is None
    chore.fail()


def test_the_outcome_of_a_chore_is_there_after_a_restart(tmp_path):
    kept = tmp_path / "kept.json"
    first = Chore("check", lambda _: {"ok": True}, tmp_path, kept)
    first.begin("ann")
    assert first.wait(30)
    assert kept.stat().st_mode & 0o777 == 0o600
    again = Chore("check", lambda _: {}, tmp_path, kept)
    assert again.last == first.last


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", "null", '{"began_at": 1}', json.dumps({"x": 1}), "\0" * 100]
)
def test_an_outcome_that_cannot_be_read_is_none(tmp_path, text):
    kept = tmp_path / "kept.json"
    kept.write_text(text)
    assert Chore("check", lambda _: {}, tmp_path, kept).last is None


def test_an_outcome_that_cannot_be_kept_is_there_all_the_same(tmp_path):
    folder = tmp_path / "a file"
    folder.write_text("")
    chore = Chore("check", lambda _: {"ok": True}, folder, tmp_path / "gone" / "kept.json")
    chore.begin("ann")
    wait_until(lambda: chore.last is not None, "an outcome")
    assert chore.last.result == {"ok": True}


def test_a_chore_is_under_way_once_in_all_processes_and_each_tells_of_it(tmp_path):
    """Two objects are as two processes: a lock belongs to the open file."""
    on, going = threading.Event(), threading.Event()

    def work(report):
        report("copying", 0.25)
        going.set()
        assert on.wait(30)
        return {"ok": True}

    one, other = Chore("copy", work, tmp_path), Chore("copy", work, tmp_path)
    assert other.running is None
    assert one.begin("ann")
    assert going.wait(30)
    assert not other.begin("bob")
    assert not other.wait(0.2)
    running = other.running
    assert (running.by, running.step, running.share) == ("ann", "copying", 0.25)
    assert running.began_at == one.running.began_at
    on.set()
    assert other.wait(30)
    assert other.running is None
    assert other.last == one.last
    assert other.last.result == {"ok": True}
    assert other.begin("bob")
    assert other.wait(30)
    assert one.last.by == "bob"


def test_a_chore_of_a_process_that_was_killed_is_not_under_way(tmp_path):
    source = """
import sys, time
from pathlib import Path
from appliance.operations.chore import Chore
chore = Chore("copy", lambda _: time.sleep(60), Path(sys.argv[1]))
assert chore.begin("ann")
print("begun", flush=True)
time.sleep(60)
"""
    with subprocess.Popen(
        [sys.executable, "-c", source, str(tmp_path)], stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout.readline() == b"begun\n"
            chore = Chore("copy", lambda _: {}, tmp_path)
            assert chore.running.by == "ann"
            assert not chore.begin("bob")
        finally:
            process.kill()
    assert chore.running is None
    assert chore.begin("bob")
    assert chore.wait(30)
