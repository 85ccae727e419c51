"""Runs of `publish --file` that stopped: what is noted, and how the next one goes on."""

import os
import random

import pytest

from appliance.cli.batching import BATCH_BYTES, BATCH_LINES, read_file_batches
from appliance.cli.unfinished import UnfinishedRun
from appliance.errors import FolderError, InputError

LINES = b"".join(b"line %d\n" % n for n in range(4 * BATCH_LINES + 7))


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    folder = tmp_path / "state"
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    return folder / "queue-appliance"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "lines"
    path.write_bytes(LINES)
    return path


def run_of(path, *, where="topic", anew=False):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return UnfinishedRun.of(path, descriptor, where, anew=anew)
    finally:
        os.close(descriptor)


def send(path, run, most=100, *, killed_at=None):
    """Send up to `most` batches; return each one's key and bytes. Killed: before it is kept."""
    sent = []
    with path.open("rb") as file:
        for batch in read_file_batches(file.fileno(), run.offset, run.line, run.pending_end):
            sent.append((run.begin(batch), batch.data))
            if len(sent) - 1 == killed_at:
                return sent
            run.kept(batch)
            if len(sent) == most:
                return sent
    run.finish()
    return sent


def test_a_file_is_cut_by_its_content_alone_wherever_the_cutting_begins(tmp_path):
    chance = random.Random(7)
    data = b"".join(b"x" * int(chance.expovariate(0.002)) + b"\n" for _ in range(30_000)) + b"end"
    path = tmp_path / "input"
    path.write_bytes(data)
    with path.open("rb", buffering=0) as file:
        whole = list(read_file_batches(file.fileno(), 0, 1, 0))
        assert b"".join(batch.data for batch in whole) == data
        assert all(batch.data.endswith(b"\n") for batch in whole[:-1])
        assert max(len(batch.data) for batch in whole) <= BATCH_BYTES
        offset = 0
        for n, batch in enumerate(whole):
            again = list(read_file_batches(file.fileno(), offset, batch.first, 0))
            assert again == whole[n:]
            offset += len(batch.data)


def test_a_line_longer_than_a_batch_is_one_and_too_long_a_one_is_named(tmp_path, monkeypatch):
    path = tmp_path / "input"
    path.write_bytes(b"a\n" + b"b" * (2 * BATCH_BYTES) + b"\nc\n")
    with path.open("rb") as file:
        sizes = [len(b.data) for b in read_file_batches(file.fileno(), 0, 1, 0)]
    assert sizes == [2, 2 * BATCH_BYTES + 1, 2]
    monkeypatch.setattr("appliance.cli.batching.LONGEST_LINE", BATCH_BYTES)
    with path.open("rb") as file, pytest.raises(InputError, match=r"^line 2 is longer"):
        list(read_file_batches(file.fileno(), 0, 1, 0))


def test_a_run_that_ends_leaves_nothing_behind(file, state):
    run = run_of(file)
    assert run.resumed_at is None
    assert b"".join(data for _, data in send(file, run)) == LINES
    assert list(state.iterdir()) == []


@pytest.mark.parametrize("killed_at", range(5))
def test_a_run_that_was_killed_is_gone_on_with_by_the_same_keys(file, killed_at):
    first = send(file, run_of(file), killed_at=killed_at)
    run = run_of(file)
    assert run.resumed_at
    assert run.line == killed_at * BATCH_LINES + 1
    second = send(file, run)
    assert second[0] == first[-1]
    everything = dict(first) | dict(second)
    assert b"".join(everything.values()) == LINES


def test_a_run_goes_on_though_the_file_has_grown(file):
    first = send(file, run_of(file), killed_at=4)
    with file.open("ab") as more:
        more.write(b"new\n")
    second = send(file, run_of(file))
    assert second[0] == first[-1]
    assert second[1][1] == b"new\n"


@pytest.mark.parametrize("place", [3, 2 * BATCH_LINES * 9])
def test_a_run_does_not_go_on_in_a_file_that_has_changed(file, place):
    send(file, run_of(file), killed_at=2)
    file.write_bytes(LINES[:place] + b"!" + LINES[place + 1 :])
    with pytest.raises(InputError, match=r"has changed since the run of .* at line 10001; --from"):
        run_of(file)
    assert run_of(file, anew=True).resumed_at is None


def test_a_run_does_not_go_on_in_a_file_that_was_cut(file):
    send(file, run_of(file), killed_at=2)
    file.write_bytes(LINES[:100])
    with pytest.raises(InputError, match="has changed"):
        run_of(file)


def test_a_run_of_which_nothing_is_kept_does_not_bind_another_content(file):
    first = send(file, run_of(file), killed_at=0)
    file.write_bytes(b"another\n")
    run = run_of(file)
    assert run.resumed_at is None
    assert send(file, run)[0][0] != first[0][0]


def test_a_refused_batch_can_be_mended_and_is_cut_anew(file):
    run = run_of(file)
    send(file, run, killed_at=1)
    run.refused()
    mended = LINES[: run.offset] + b"mended\n" + LINES[run.offset + 5 :]
    file.write_bytes(mended)
    again = run_of(file)
    assert again.line == BATCH_LINES + 1
    assert b"".join(data for _, data in send(file, again)) == mended[run.offset :]


def test_a_run_that_is_refused_at_once_is_forgotten(file, state):
    run = run_of(file)
    send(file, run, killed_at=0)
    run.refused()
    assert list(state.iterdir()) == []


def test_runs_of_several_topics_do_not_know_one_another(file):
    send(file, run_of(file, where="a"), killed_at=1)
    assert run_of(file, where="b").resumed_at is None
    assert run_of(file, where="a").resumed_at


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"run":1}', '{"run":"x","started_at":"y","a":1}']
)
def test_a_damaged_note_is_said_and_never_taken_for_none(file, state, text):
    send(file, run_of(file), killed_at=1)
    (note,) = state.iterdir()
    note.write_text(text)
    with pytest.raises(InputError, match=r"is damaged.*--from-start"):
        run_of(file)


def test_a_note_that_can_not_be_written_is_said(file, state):
    state.parent.write_text("a file where the folder should be")
    with pytest.raises(FolderError, match="can't be"):
        run_of(file)
