"""Attacks of a stranger, who has no token: everybody else is served meanwhile, in bounded memory.

Each attack (`stranger.py`) runs for a few seconds, while a second client asks whether the API is
well, on a new connection each time, and a third one publishes on a connection that it keeps.
"""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import stranger

#: Seconds that an attack lasts.
SECONDS = 2.0
#: MiB that the API can grow by meanwhile, and seconds until 99 of 100 health checks are answered.
#: Alone one takes 1 ms.
GROWTH_MIB = 64
P99_SECONDS = 0.05
#: By how much the API and its clients come before other programs of the machine, where they may:
#: those are not what is measured.
AHEAD = 10
#: Attempts at an attack: other programs on the machine may take its time for seconds.
ATTEMPTS = 5
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def running(module_stack):
    made = module_stack(workers=0)
    processes = made.api.pid, made.broker.process.pid, os.getpid()
    own = os.getpriority(os.PRIO_PROCESS, 0)
    prefer(processes, own - AHEAD)
    yield made
    prefer(processes, own)


def prefer(processes, nice):
    """Give processes, and the sessions in which the kernel may group them, a priority."""
    for process in processes:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, process, nice)
            Path(f"/proc/{process}/autogroup").write_text(str(nice))


@pytest.fixture(scope="module")
def floor_mib(running):
    """MiB of the API before any attack."""
    for path in ("/healthz", "/readyz", "/", "/openapi.json"):
        running.get(path)
    return memory_mib(running.api, "VmRSS")


def address_of(stack):
    host, _, port = stack.url.removeprefix("http://").partition(":")
    return host, int(port)


def memory_mib(process, name):
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    raise AssertionError(name)


def forget_peak(process):
    """Have the kernel measure the peak of the memory (VmHWM) from now on."""
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")


def check_health(stack):
    """Return the seconds until a new client knows that the API is well."""
    began = time.monotonic()
    with socket.create_connection(address_of(stack), 10) as link:
        link.sendall(HEALTH)
        answer = b"".join(iter(lambda: link.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    return time.monotonic() - began


def publish(stack, attack, statuses):
    while attack.poll() is None:
        answer = stack.client.post("/v1/topics/t/messages", content=b"x", timeout=5)
        statuses.append(answer.status_code)
        time.sleep(0.01)


def under_attack(stack, name):
    """Return the seconds of the health checks, in order, and the statuses of the messages."""
    command = [
        "nice",
        "-n",
        str(AHEAD),
        sys.executable,
        stranger.__file__,
        *map(str, address_of(stack)),
        str(SECONDS),
        name,
    ]
    attack = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    took, statuses = [], []
    publisher = threading.Thread(target=publish, args=(stack, attack, statuses))
    publisher.start()
    while attack.poll() is None:
        took.append(check_health(stack))
        time.sleep(0.005)
    publisher.join()
    assert int(attack.communicate()[0]) > 0, "the attack sent something"
    assert attack.returncode == 0
    return sorted(took), statuses


@pytest.mark.parametrize("name", stranger.NAMES)
def test_a_stranger_takes_neither_memory_nor_time_from_others(running, floor_mib, name):
    forget_peak(running.api)
    p99 = 0.0
    for _ in range(ATTEMPTS):
        took, statuses = under_attack(running, name)
        assert len(took) > 20
        assert len(statuses) > 10
        assert set(statuses) == {202}
        p99 = took[len(took) * 99 // 100]
        if p99 < P99_SECONDS:
            break
    peak = memory_mib(running.api, "VmHWM")
    print(f"{name}: p99 {p99 * 1e3:.1f} ms, {len(took)} checks, {peak - floor_mib:+.1f} MiB")
    assert p99 < P99_SECONDS
    assert peak < floor_mib + GROWTH_MIB
    assert "Traceback" not in running.api.log
    assert len(running.api.log) < 100_000
