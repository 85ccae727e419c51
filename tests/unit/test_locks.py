"""Locks on files."""

import os
import subprocess
import sys
import threading
import time

import pytest

from appliance.machine import locks

HOLD = """
import sys
from pathlib import Path
from appliance.machine import locks
with locks.held(Path(sys.argv[1]), shared=sys.argv[2] == "shared") as descriptor:
    locks.write_pid(descriptor)
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holding(tmp_path):
    """Return a function that has another process hold the lock, until the test ends."""
    processes = []

    def hold(how="alone"):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path / "lock"), how],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        processes.append(process)
        assert process.stdout.readline() == b"held\n"
        return process

    yield hold
    for process in processes:
        process.kill()
        process.communicate()


def test_a_lock_that_another_process_holds_is_refused_at_once(tmp_path, holding):
    process = holding()
    with pytest.raises(BlockingIOError), locks.held(tmp_path / "lock"):
        pass
    assert locks.is_held(tmp_path / "lock")
    assert locks.holder(tmp_path / "lock") == process.pid


def test_a_shared_lock_is_shared_and_keeps_out_those_who_want_it_alone(tmp_path, holding):
    holding("shared")
    with locks.held(tmp_path / "lock", shared=True):
        pass
    with pytest.raises(BlockingIOError), locks.held(tmp_path / "lock"):
        pass


def test_a_lock_is_free_as_soon_as_its_holder_is_killed(tmp_path, holding):
    process = holding()
    threading.Timer(0.2, process.kill).start()
    began = time.monotonic()
    with locks.held(tmp_path / "lock", patience=20.0):
        assert 0.1 < time.monotonic() - began < 15
    assert locks.holder(tmp_path / "lock") is None
    assert not locks.is_held(tmp_path / "lock")


def test_patience_without_end_waits_for_the_holder(tmp_path, holding):
    process = holding()
    threading.Timer(0.2, process.kill).start()
    with locks.held(tmp_path / "lock", patience=None) as descriptor:
        assert os.fstat(descriptor).st_mode & 0o777 == 0o600


def test_a_lock_file_without_a_pid_does_not_name_its_holder(tmp_path):
    with locks.held(tmp_path / "lock"), pytest.raises(ValueError, match="invalid literal"):
        locks.holder(tmp_path / "lock")
