"""Asking supervisord for its processes, when it can't answer."""

import socket
import time
from pathlib import Path

import pytest

from appliance import config as configuration
from appliance.supervision import processes


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
    listening(processes.socket_path(config)).close()
    assert processes.read(config) == []


def test_a_supervisord_that_hangs_is_not_waited_for(config):
    with listening(processes.socket_path(config)):
        started = time.monotonic()
        assert processes.read(config) == []
        assert time.monotonic() - started < 5
