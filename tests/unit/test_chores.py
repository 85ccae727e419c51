"""A chore: one at a time, in the background, its last outcome kept."""

import json
import threading

import pytest
from harness import wait_until

from appliance.errors import BackupRoomError, StoreError
from appliance.operations.chore import Chore


def test_a_chore_is_under_way_once_and_tells_how_far_it_is():
    on, going = threading.Event(), threading.Event()

    def work(report):
        report("copying", 0.25)
        going.set()
        assert on.wait(30)
        return {"ok": True}

    chore = Chore("copy", work)
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
def test_a_chore_that_fails_says_so_without_the_inside_and_can_be_begun_again(error, words):
    fails = [True]

    def work(_report):
        if fails:
            raise error
        return {}

    chore = Chore("copy", work)
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
    first = Chore("check", lambda _: {"ok": True}, kept)
    first.begin("ann")
    assert first.wait(30)
    assert kept.stat().st_mode & 0o777 == 0o600
    again = Chore("check", lambda _: {}, kept)
    assert again.last == first.last


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", "null", '{"began_at": 1}', json.dumps({"x": 1}), "\0" * 100]
)
def test_an_outcome_that_cannot_be_read_is_none(tmp_path, text):
    kept = tmp_path / "kept.json"
    kept.write_text(text)
    assert Chore("check", lambda _: {}, kept).last is None


def test_an_outcome_that_cannot_be_kept_is_there_all_the_same(tmp_path):
    chore = Chore("check", lambda _: {"ok": True}, tmp_path / "gone" / "kept.json")
    chore.begin("ann")
    wait_until(lambda: chore.last is not None, "an outcome")
    assert chore.last.result == {"ok": True}
