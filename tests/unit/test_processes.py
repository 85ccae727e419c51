"""Asking supervisord and systemd for the processes."""

import socket
import time
from pathlib import Path

import pytest

from appliance import config as configuration
from appliance.supervision import processes, supervisord, systemd
from appliance.supervision.state import ProcessState


@pytest.fixture
def config(tmp_path):
    made = configuration.load({"APPLIANCE_DATA": str(tmp_path)})
    made.run_folder.mkdir()
    return made


def listening(path: Path) -> socket.socket:
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()
    return server


def test_no_supervisord_means_no_processes(config):
    assert processes.read(config) == []


def test_a_socket_that_a_killed_supervisord_left_means_no_processes(config):
    listening(config.supervisor_socket).close()
    assert processes.read(config) == []


def test_the_end_of_a_program_is_told_in_utc():
    info = {
        "name": "migrate", "group": "migrate", "statename": "EXITED", "pid": 0, "spawnerr": "",
        "description": "Jan 31 01:00 PM", "start": 1769860799, "stop": 1769860800, "now": 0,
    }  # fmt: skip
    assert supervisord._state(info) == ProcessState(
        "migrate", "EXITED", None, None, "ended at 2026-01-31T12:00:00Z"
    )


def test_a_supervisord_that_hangs_is_not_waited_for(config):
    with listening(config.supervisor_socket):
        started = time.monotonic()
        assert processes.read(config) == []
        assert time.monotonic() - started < 5


SHOWN = """\
Result=success
NRestarts=2
MainPID=412
Id=appliance-worker@1.service
ActiveState=active
SubState=running
ExecMainStartTimestampMonotonic=70000000
StatusText=12 envelopes stored in the last minute

Result=success
NRestarts=0
MainPID=0
Id=appliance-migrate.service
ActiveState=active
SubState=exited
ExecMainStartTimestampMonotonic=60000000
StatusText=

Result=exit-code
NRestarts=7
MainPID=0
Id=appliance-broker.service
ActiveState=activating
SubState=auto-restart
ExecMainStartTimestampMonotonic=90000000
StatusText=
"""


def test_systemds_states_are_told_in_the_words_of_supervisord():
    broker, migrate, worker = systemd.parse(SHOWN, now=100.0)
    assert worker == ProcessState(
        "worker@1", "RUNNING", 412, 30.0, "12 envelopes stored in the last minute"
    )
    assert migrate == ProcessState("migrate", "EXITED", None, None, "last result: success")
    assert broker == ProcessState(
        "broker", "BACKOFF", None, None, "last result: exit-code, restarted 7 times"
    )


@pytest.mark.parametrize("text", ["", "\n\n", "Unit not found", "Id=\n"])
def test_an_answer_of_systemd_without_units_is_no_process(text):
    assert systemd.parse(text, now=1.0) == []


def test_systemd_is_asked_only_by_what_it_has_started(config, monkeypatch):
    monkeypatch.setattr(systemd, "read", lambda: ["asked"])
    monkeypatch.delenv("INVOCATION_ID", raising=False)
    assert processes.read(config) == []
    monkeypatch.setenv("INVOCATION_ID", "0" * 32)
    assert processes.read(config) == ["asked"]
