"""Witnesses of an attack: what it costs everybody else, in seconds and in memory of the API.

A stranger attacks from a process of its own. Meanwhile one client asks whether the API is well, on
a new connection each time, and another one publishes on a connection that it keeps. Other programs
take the CPU too, for seconds where many tests run at once: the kernel says for how long the API and
the client were ready to run and waited for a CPU (`/proc/PID/schedstat`), and that time is not the
API's. The rest is: its work for the stranger and for others, one after the other.
"""

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import stranger
from harness import Process, Stack

#: Seconds that an attack lasts, between two health checks, and between two messages.
SECONDS = 2.0
CHECK_PAUSE, MESSAGE_PAUSE = 0.005, 0.01
#: Checks without which a 99th percentile is hardly more than the slowest one, and how often an
#: attack is made at most: a busy machine leaves few checks, and delays some. None is left out.
CHECKS, MOST_ATTACKS = 200, 5
#: MiB that the API can grow by meanwhile, and seconds until 99 of 100 requests are answered.
#: Alone a health check takes 1 ms.
GROWTH_MIB = 64
P99_SECONDS = 0.05
#: The same where a client shakes hands anew for each request, and up to five times for one.
ENCRYPTED_P99_SECONDS = 0.2


@dataclass
class Witnessed:
    """What the clients saw: seconds of each request by the clock on the wall, and those less what
    the kernel gave to other programs; and the statuses of the messages."""

    wall: list[float] = field(default_factory=list)
    own: list[float] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    #: How much the stranger sent, or how many connections it made.
    sent: int = 0

    def __str__(self) -> str:
        wall, own = (f"{p99(seconds) * 1e3:.1f}" for seconds in (self.wall, self.own))
        return f"p99 {own} ms ({wall} on the wall) of {len(self.own)}, {self.sent} sent"


def p99(seconds: list[float]) -> float:
    return sorted(seconds)[len(seconds) * 99 // 100]


def waits(*folders: Path) -> dict[Path, int]:
    """Return for how many nanoseconds each thread in these folders has waited for a CPU."""
    found = {}
    for folder in folders:
        for thread in folder.iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found[thread] = int((thread / "schedstat").read_text().split()[1])
    return found


def attacked(stack: Stack, name: str, check: Callable[[], None]) -> Witnessed:
    """Attack; meanwhile `check` again and again, and time it. All of it counts."""
    seen = Witnessed()
    for _ in range(MOST_ATTACKS):
        _attack(stack, name, check, seen)
        if len(seen.own) >= CHECKS and p99(seen.own) < P99_SECONDS:
            break
    return seen


def _attack(stack: Stack, name: str, check: Callable[[], None], seen: Witnessed) -> None:
    host, port = address_of(stack)
    command = [sys.executable, stranger.__file__, host, str(port), str(SECONDS), name]
    attack = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    publisher = threading.Thread(target=publish, args=(stack, attack, seen.statuses))
    publisher.start()
    try:
        while attack.poll() is None:
            time_one(stack.api, check, seen)
            time.sleep(CHECK_PAUSE)
    finally:
        publisher.join()
    seen.sent += int(attack.communicate()[0])
    assert attack.returncode == 0


def time_one(api: Process, check: Callable[[], None], seen: Witnessed) -> None:
    places = Path(f"/proc/{api.pid}/task"), Path("/proc/self/task")
    before = waits(*places)
    began = time.monotonic()
    check()
    took = time.monotonic() - began
    waited = sum(after - before.get(thread, 0) for thread, after in waits(*places).items()) / 1e9
    seen.wall.append(took)
    seen.own.append(max(0.0, took - waited))


def publish(stack: Stack, attack: subprocess.Popen[bytes], statuses: list[int]) -> None:
    """Publish until the attack ends. What goes wrong is seen in the statuses."""
    while attack.poll() is None:
        try:
            answer = stack.client.post("/v1/topics/t/messages", content=b"x", timeout=5)
        except httpx.HTTPError:
            statuses.append(0)
        else:
            statuses.append(answer.status_code)
        time.sleep(MESSAGE_PAUSE)


def hold(stack: Stack, seen: Witnessed, floor: float, most: float = P99_SECONDS) -> None:
    """Hold what was seen to what everybody else can ask for."""
    growth = memory_mib(stack.api, "VmHWM") - floor
    print(f"{seen}, {growth:+.1f} MiB")
    assert seen.sent > 0, "the attack sent nothing"
    assert len(seen.own) > 20
    assert len(seen.statuses) > 10
    assert set(seen.statuses) == {202}
    assert p99(seen.own) < most
    assert growth < GROWTH_MIB
    assert "Traceback" not in stack.api.log
    assert len(stack.api.log) < 100_000


def address_of(stack: Stack) -> tuple[str, int]:
    host, _, port = stack.url.partition("://")[2].partition(":")
    return host, int(port)


def memory_mib(process: Process, name: str) -> float:
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    raise AssertionError(name)


def forget_peak(process: Process) -> None:
    """Have the kernel measure the peak of the memory (VmHWM) from now on."""
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")
