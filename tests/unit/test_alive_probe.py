"""rootfs/usr/local/bin/appliance-alive: the probe of a container that serves no HTTP."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from appliance import config
from appliance.machine import signs
from appliance.machine.pulse import Pulse
from appliance.machine.record_file import RecordFile

PROBE = Path(__file__).parents[2] / "rootfs" / "usr" / "local" / "bin" / "appliance-alive"


@pytest.fixture
def probe(tmp_path):
    def run(*arguments, hang="30"):
        environ = {"APPLIANCE_RUN": str(tmp_path / "run"), "APPLIANCE_HANG_TIMEOUT": hang}
        command = ["/usr/bin/env", "python3", "-IS", str(PROBE), *arguments]
        environ["PATH"] = os.environ["PATH"]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        assert not done.stderr
        return done.returncode, done.stdout

    return run


@pytest.fixture
def settings(tmp_path):
    return config.load({"APPLIANCE_DATA": str(tmp_path), "APPLIANCE_RUN": str(tmp_path / "run")})


def test_a_process_is_alive_from_its_first_sign_and_ready_once_it_says_so(probe, settings):
    assert probe() == (1, "no process gives a sign of life\n")
    with Pulse(settings, "worker", "consuming", "storing") as pulse:
        assert probe()[0] == 0
        code, words = probe("--ready")
        assert (code, words[:16]) == (1, "worker: starting")
        pulse.status("standing by")
        pulse.ready()
        deadline = time.monotonic() + 30
        while probe("--ready")[0] and time.monotonic() < deadline:
            time.sleep(0.1)
        code, words = probe("--ready")
        assert code == 0
        assert words.startswith("worker: ready, standing by; last beat ")
    assert probe()[0] == 1


@pytest.mark.parametrize(
    ("beats", "silent", "state", "code"),
    [
        (7, 29, "ready", 0),
        (7, 31, "ready", 1),
        (7, 31, "stopping", 0),
        (0, 89, "starting", 0),
        (0, 91, "starting", 1),
    ],
)
def test_a_process_that_has_not_beaten_for_as_long_as_a_hang_takes_is_not_alive(
    probe, settings, beats, silent, state, code
):
    """As the listener of supervisord decides, which restarts such a process."""
    sign = {
        "process": "worker", "pid": os.getpid(), "beats": beats, "state": state, "status": "",
        "beat_at": time.monotonic() - silent, "facts": {},
    }  # fmt: skip
    file = RecordFile(signs.folder(settings) / "worker-1", signs.FILE_BYTES)
    file.write(sign)
    assert probe()[0] == code
    file.close(keep=True)
    assert json.loads((signs.folder(settings) / "worker-1").read_text()) == sign
    assert probe()[0] == 1, "the process has ended"
