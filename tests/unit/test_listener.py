"""The event listener, as a process that is spoken to in supervisord's own protocol."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from appliance.supervision.fatal_mark import FatalMark

#: Plays supervisord: starts the listener as its child, joins the pipes, and says how it was ended.
SUPERVISORD = """
import signal, subprocess, sys
def ended(number, frame):
    print("ended by", signal.Signals(number).name, file=sys.stderr, flush=True)
signal.signal(signal.SIGTERM, ended)
code = "from appliance.cli import main; main()"
sys.exit(subprocess.call([sys.executable, "-c", code, "listener"]))
"""


class Listener:
    def __init__(self, process: subprocess.Popen[str]):
        self.process = process
        self.serial = 0

    def expect(self, line: str):
        assert self.process.stdout.readline() == line + "\n"

    def send(self, event: str, payload: str = ""):
        self.expect("READY")
        self.serial += 1
        self.process.stdin.write(
            f"ver:3.0 server:appliance serial:{self.serial} pool:listener "
            f"poolserial:{self.serial} eventname:{event} len:{len(payload)}\n{payload}"
        )
        self.process.stdin.flush()
        self.expect("RESULT 2")
        assert self.process.stdout.read(2) == "OK"

    def end(self) -> str:
        """Close its input, as supervisord's death does, and return what was logged."""
        _, errors = self.process.communicate(timeout=20)
        assert self.process.returncode == 0
        return errors


@contextmanager
def started(data: Path) -> Iterator[Listener]:
    (data / "run").mkdir(exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-c", SUPERVISORD],
        env={**os.environ, "APPLIANCE_DATA": str(data), "APPLIANCE_LOG_FORMAT": "json"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield Listener(process)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def state(program: str, before: str, **more: object) -> str:
    pairs = {"processname": program, "groupname": program, "from_state": before, **more}
    return " ".join(f"{key}:{value}" for key, value in pairs.items())


def test_a_program_given_up_leaves_a_mark_and_ends_supervisord(tmp_path):
    with started(tmp_path) as listener:
        listener.send("PROCESS_STATE_FATAL", state("broker", "BACKOFF"))
        errors = listener.end()
    assert "ended by SIGTERM" in errors
    logged = json.loads(next(line for line in errors.splitlines() if line.startswith("{")))
    assert (logged["level"], logged["program"]) == ("critical", "broker")
    assert FatalMark.find(tmp_path / "run").program == "broker"


def test_a_failed_migration_ends_supervisord(tmp_path):
    with started(tmp_path) as listener:
        listener.send("PROCESS_STATE_EXITED", state("migrate", "RUNNING", expected=0, pid=7))
        assert "ended by SIGTERM" in listener.end()
    assert FatalMark.find(tmp_path / "run").program == "migrate"


@pytest.mark.parametrize(
    ("program", "expected"), [("migrate", 1), ("worker_0", 0), ("api", 0), ("api", 1)]
)
def test_an_exit_that_supervisord_answers_with_a_restart_ends_nothing(tmp_path, program, expected):
    with started(tmp_path) as listener:
        listener.send("PROCESS_STATE_EXITED", state(program, "RUNNING", expected=expected, pid=7))
        assert listener.end() == ""
    assert FatalMark.find(tmp_path / "run") is None


def test_programs_that_a_stop_makes_fatal_leave_no_mark(tmp_path):
    with started(tmp_path) as listener:
        listener.send("SUPERVISOR_STATE_CHANGE_STOPPING")
        listener.send("PROCESS_STATE_FATAL", state("api", "BACKOFF"))
        assert listener.end() == ""
    assert FatalMark.find(tmp_path / "run") is None


def test_a_second_program_given_up_changes_nothing(tmp_path):
    with started(tmp_path) as listener:
        listener.send("PROCESS_STATE_FATAL", state("broker", "BACKOFF"))
        listener.send("PROCESS_STATE_FATAL", state("api", "BACKOFF"))
        assert listener.end().count("ended by SIGTERM") == 1
    assert FatalMark.find(tmp_path / "run").program == "broker"


def test_a_mark_that_can_not_be_read_is_a_mark(tmp_path):
    FatalMark.path(tmp_path).write_text("{")
    assert FatalMark.find(tmp_path) is not None
