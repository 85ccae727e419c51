"""Nothing listens but what is documented, also long after the start, and nothing stays behind.

In a network namespace of its own, so that other programs of the machine are not in the way. Needs
root.
"""

import contextlib
import os
import subprocess
import time
from pathlib import Path

import pytest
from harness import APPLIANCE, START_SECONDS, environment, wait_until

#: Seconds: RabbitMQ starts a program of Erlang's a minute after the node. And between two looks.
A_MINUTE_LATER, PERIOD = 70.0, 5.0
HTTP, AMQP = 18_080, 15_672
#: Erlang's own protocol, 20,000 above AMQP; and its port mapper, which RabbitMQ starts by itself.
DISTRIBUTION, EPMD = AMQP + 20_000, 4369


@pytest.fixture
def space(tmp_path):
    """An `appliance run` in a network namespace, and a descriptor of that namespace."""
    env = environment(
        tmp_path / "var",
        APPLIANCE_HTTP=f"0.0.0.0:{HTTP}",
        APPLIANCE_AMQP=f"127.0.0.1:{AMQP}",
    )
    log = (tmp_path / "log").open("wb")
    started = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", f"ip link set lo up && exec {APPLIANCE} run"],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )

    def said():
        assert started.poll() is None, (tmp_path / "log").read_text()
        return (tmp_path / "log").read_text()

    wait_until(lambda: "appliance ready" in said(), "ready", START_SECONDS, said)
    descriptor = os.open(f"/proc/{started.pid}/ns/net", os.O_RDONLY)
    yield started, descriptor
    os.close(descriptor)
    if started.poll() is None:
        started.terminate()
        started.wait(60)
    log.close()


def listening(descriptor):
    """Return the addresses, TCP and UDP, on which anything in the namespace listens."""
    shown = subprocess.run(
        ["nsenter", f"--net=/proc/self/fd/{descriptor}", "ss", "-Hltun"],
        pass_fds=[descriptor],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return {line.split()[4] for line in shown.splitlines()}


def inhabitants(descriptor):
    """Return the names of the processes in the namespace."""
    own = os.fstat(descriptor).st_ino
    names = []
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if process.name.isdigit() and (process / "ns" / "net").stat().st_ino == own:
                names.append((process / "comm").read_text(errors="replace").strip())
    return names


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(A_MINUTE_LATER, marks=pytest.mark.timeout(240)),
        pytest.param(3600.0, marks=[pytest.mark.long, pytest.mark.timeout(4000)]),
    ],
)
def test_only_documented_addresses_listen_and_nothing_stays_behind(space, seconds):
    started, descriptor = space
    documented = {f"0.0.0.0:{HTTP}", f"127.0.0.1:{AMQP}", f"127.0.0.1:{DISTRIBUTION}"}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert listening(descriptor) == documented
        time.sleep(PERIOD)
    assert listening(descriptor) == documented
    started.terminate()
    assert started.wait(60) == 0
    assert listening(descriptor) == set()
    assert inhabitants(descriptor) == []
