"""The pulse: what systemd is told, and what other processes can read."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from appliance import config as configuration
from appliance.machine.pulse import Pulse
from appliance.machine.signs import signs

#: A process that lives or hangs as it is told: beats until it reads a line, then does nothing.
BEATS = """
import sys, threading
from appliance import config
from appliance.machine.pulse import Pulse
done = threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), done.set()), daemon=True).start()
with Pulse(config.load({"APPLIANCE_DATA": sys.argv[1]}), "beating") as pulse:
    print("begun", flush=True)
    while not done.wait(0.05):
        pulse.beat()
    sys.stdin.readline()
"""


@pytest.fixture
def config(tmp_path):
    return configuration.load({"APPLIANCE_DATA": str(tmp_path / "data")})


def wait_for(check: Callable[[], object], seconds: float = 20) -> object:
    end = time.monotonic() + seconds
    while not (value := check()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return value


class Systemd:
    """Listens where NOTIFY_SOCKET says, as systemd does."""

    def __init__(self, address: str):
        self.link = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.link.bind("\0" + address[1:] if address.startswith("@") else address)
        self.link.settimeout(20)
        self.environ = {
            "NOTIFY_SOCKET": address,
            "WATCHDOG_USEC": "400000",
            "WATCHDOG_PID": str(os.getpid()),
        }

    def hears(self, *lines: str) -> bool:
        """Wait until it is told all of this; fails where it isn't."""
        wanted = set(lines)
        while wanted:
            wanted -= set(self.link.recv(4096).decode().splitlines())
        return True

    def told_within(self, seconds: float) -> list[str]:
        self.link.settimeout(seconds)
        lines = []
        try:
            while True:
                lines += self.link.recv(4096).decode().splitlines()
        except TimeoutError:
            return lines
        finally:
            self.link.settimeout(20)


@pytest.fixture(params=["path", "abstract"])
def systemd(request, tmp_path):
    name = f"@{tmp_path}/notify" if request.param == "abstract" else str(tmp_path / "notify")
    made = Systemd(name)
    yield made
    made.link.close()


def test_systemd_is_told_the_start_the_work_and_the_end(config, systemd):
    with Pulse(config, "worker", environ=systemd.environ) as pulse:
        pulse.status("storing, 12 envelopes in the last minute")
        pulse.ready()
        assert systemd.hears("READY=1", "STATUS=storing, 12 envelopes in the last minute")
        pulse.stopping()
        assert systemd.hears("STOPPING=1")


def test_ready_is_said_once(config, systemd):
    with Pulse(config, "api", environ=systemd.environ) as pulse:
        pulse.ready()
        assert systemd.hears("READY=1")
        pulse.ready()
        assert "READY=1" not in systemd.told_within(0.5)


def test_the_watchdog_is_fed_only_while_every_loop_beats(config, systemd):
    with Pulse(config, "worker", "one", "other", environ=systemd.environ) as pulse:
        pulse.beat("one")
        assert "WATCHDOG=1" not in systemd.told_within(0.5)
        pulse.beat("other")
        assert systemd.hears("WATCHDOG=1")
        pulse.beat("one")
        assert "WATCHDOG=1" not in systemd.told_within(0.5)


def test_a_watchdog_meant_for_another_process_is_not_fed(config, systemd):
    environ = {**systemd.environ, "WATCHDOG_PID": "1"}
    with Pulse(config, "worker", environ=environ) as pulse:
        pulse.beat()
        wait_for(lambda: signs(config)[0].beats)
    assert "WATCHDOG=1" not in systemd.told_within(0.2)


def test_a_systemd_that_is_gone_stops_nothing(config, tmp_path):
    environ = {"NOTIFY_SOCKET": str(tmp_path / "nobody"), "WATCHDOG_USEC": "400000"}
    with Pulse(config, "worker", environ=environ) as pulse:
        pulse.beat()
        pulse.ready()
        wait_for(lambda: signs(config)[0].state == "ready")


def test_a_sign_of_life_is_read_by_other_processes(config):
    with Pulse(config, "janitor", environ={}) as pulse:
        pulse.beat()
        pulse.status("x" * 1000)
        pulse.tell("probe", {"ok": True})
        pulse.ready()
        wait_for(lambda: [sign.state for sign in signs(config)] == ["ready"])
        (sign,) = signs(config)
        assert (sign.process, sign.pid) == ("janitor", os.getpid())
        assert sign.facts == {"probe": {"ok": True}}
        assert 10 < len(sign.status) < 1000
        before = sign.beats
        pulse.beat()
        wait_for(lambda: signs(config)[0].beats == before + 1)
    assert signs(config) == []


def test_a_loop_that_hangs_shows_and_one_that_was_killed_is_gone(config):
    with start_beating(config) as process:
        sign = wait_for(lambda: next(iter(signs(config)), None))
        wait_for(lambda: signs(config)[0].beats > sign.beats)
        process.stdin.write(b"hang\n")
        process.stdin.flush()
        wait_for(lambda: signs(config)[0].seconds_ago > 2)
        process.kill()
        process.wait()
        assert signs(config) == []
        assert list((config.run_folder / "pulse").iterdir()) != []
    with Pulse(config, "next", environ={}):  # clears away what the dead one left
        assert [path.name for path in (config.run_folder / "pulse").iterdir()] == [
            f"next-{os.getpid()}"
        ]


def test_a_stopped_process_is_there_and_its_beats_stand_still(config):
    with start_beating(config) as process:
        wait_for(lambda: signs(config))
        os.kill(process.pid, signal.SIGSTOP)
        wait_for(lambda: signs(config)[0].seconds_ago > 2)
        process.kill()


def start_beating(config) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", BEATS, str(config.data)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"begun\n"
    return process
