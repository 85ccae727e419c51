"""A restart: the process is told to end; its supervisor starts it again."""

import signal
import subprocess
import sys

import pytest

from appliance import config as configuration
from appliance.errors import RestartError
from appliance.supervision import processes, restart
from appliance.supervision.state import ProcessState


@pytest.fixture
def config(tmp_path):
    return configuration.load({"APPLIANCE_DATA": str(tmp_path)})


def running(monkeypatch, name, state, pid):
    monkeypatch.setattr(processes, "read", lambda _: [ProcessState(name, state, pid, 1.0, "")])


def test_a_process_that_runs_is_told_to_end(config, monkeypatch):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        running(monkeypatch, "worker:worker_0", "RUNNING", process.pid)
        assert restart.restart(config, "worker:worker_0")
        assert process.wait(30) == -signal.SIGTERM
        with pytest.raises(RestartError, match="has just ended"):
            restart.restart(config, "worker:worker_0")


def test_a_process_that_there_is_not_is_not_restarted(config, monkeypatch):
    running(monkeypatch, "api", "RUNNING", 1)
    for name in ("", "worker", "api:api", "../api"):
        assert not restart.restart(config, name)


@pytest.mark.parametrize(
    ("name", "state", "pid", "words"),
    [
        ("migrate", "EXITED", None, "it runs once"),
        ("api", "STOPPED", None, "is stopped"),
        ("api", "STARTING", 77, "is starting"),
    ],
)
def test_a_process_that_cannot_be_restarted_is_named_in_words(
    config, monkeypatch, name, state, pid, words
):
    running(monkeypatch, name, state, pid)
    with pytest.raises(RestartError, match=words):
        restart.restart(config, name)


def test_a_process_of_another_user_is_named_with_the_command_that_restarts_it(config, monkeypatch):
    running(monkeypatch, "worker@0", "RUNNING", 4711)

    def refuse(_pid, _number):
        raise PermissionError

    monkeypatch.setattr(restart.os, "kill", refuse)
    with pytest.raises(RestartError, match="sudo systemctl restart appliance-worker@0"):
        restart.restart(config, "worker@0")
