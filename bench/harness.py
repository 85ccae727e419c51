"""Programs as processes, and what they cost: CPU time and memory as the kernel counts them."""

import contextlib
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
#: Programs rest when they use less than this share of a core, seen over so many seconds.
_REST_SHARE, _REST_LOOK, _REST_PATIENCE = 0.1, 0.5, 60.0
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
#: Seconds a program may take to end after SIGTERM before it is killed.
_STOP_TIMEOUT = 20.0
#: RabbitMQ's distribution listens this much above its AMQP port.
_DISTRIBUTION_OFFSET = 20000


class BenchError(Exception):
    """The benchmark can't go on; what was measured until then is of no use."""


class MissingError(BenchError):
    """A part that a side needs is not on this machine; the message says how to get it."""


def find(program: str, package: str) -> str:
    """Return the path of a program. Raises MissingError."""
    path = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if not path:
        raise MissingError(f"{program} is missing: apt-get install {package}")
    return path


class Program:
    """A child process with all its descendants; its output goes to a file of its own."""

    def __init__(
        self, name: str, argv: Sequence[str], folder: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                argv,
                cwd=REPOSITORY,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def check(self) -> None:
        """Raise BenchError if it has ended."""
        if self._process.poll() is not None:
            raise BenchError(f"{self.name} ended with {self._process.returncode}:\n{self.tail()}")

    def tail(self) -> str:
        """Return the end of its output."""
        return self.log.read_text(errors="replace")[-2000:]

    def wait(self, timeout: float) -> None:
        """Wait for it to end well."""
        try:
            status = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise BenchError(f"{self.name} did not end in {timeout} s:\n{self.tail()}") from None
        if status:
            raise BenchError(f"{self.name} ended with {status}:\n{self.tail()}")

    def stop(self) -> None:
        """End it and whatever it started."""
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_TIMEOUT)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def cpu_seconds(self) -> float:
        """CPU time of the process and its descendants."""
        return sum(map(cpu_seconds_of, tree(self.pid)))

    def memory(self) -> int:
        """Bytes of the process and its descendants: PSS where it may be read, else RSS."""
        return sum(map(_memory, tree(self.pid)))


def tree(pid: int) -> Iterator[int]:
    """Yield `pid` and its descendants that are alive."""
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in task.read_text().split():
                yield from tree(int(child))


def cpu_seconds_of(pid: int) -> float:
    """CPU time of one process.

    /proc/PID/stat knows threads that have ended, and leaves out what is below a tick, which is much
    where a server has a process for each connection. Its threads' schedstat is exact.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    ticks = int(fields[11]) + int(fields[12])  # user and system
    exact = 0
    for file in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):
            exact += int(file.read_text().split()[0])
    return max(ticks / _TICKS_PER_SECOND, exact / 1e9)


def _memory(pid: int) -> int:
    for file, key in (("smaps_rollup", "Pss:"), ("status", "VmRSS:")):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
                if line.startswith(key):
                    return int(line.split()[1]) * 1024
    return 0


def machine_cpu_seconds() -> float:
    """CPU time that the whole machine has used, so that other people's load can be told."""
    user, nice, system, _, _, irq, softirq = Path("/proc/stat").read_text().split()[1:8]
    ticks = sum(map(int, (user, nice, system, irq, softirq)))
    return ticks / _TICKS_PER_SECOND


def free_port() -> int:
    """Return a port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def free_broker_port() -> int:
    """Return a free port whose distribution port is free too."""
    for _ in range(100):
        port = random.randrange(10000, 30000)
        try:
            with socket.socket() as one, socket.socket() as two:
                one.bind(("127.0.0.1", port))
                two.bind(("127.0.0.1", port + _DISTRIBUTION_OFFSET))
        except OSError:
            continue
        return port
    raise BenchError("no free pair of ports")


def wait_until(what: str, condition: Callable[[], bool], programs: Sequence[Program]) -> None:
    """Wait up to a minute for `condition`; fail at once if one of the programs ends."""
    deadline = time.monotonic() + 60
    while not condition():
        for program in programs:
            program.check()
        if time.monotonic() > deadline:
            logs = "\n".join(f"{program.name}: {program.tail()}" for program in programs)
            raise BenchError(f"{what}: not within a minute\n{logs}")
        time.sleep(0.1)


def wait_at_rest(programs: Sequence[Program]) -> None:
    """Wait until programs have ended the work on what came before. Raises BenchError.

    A broker moves what it has confirmed from its log into segments, for seconds: without this the
    side that comes next would pay for the one before.
    """
    end = time.monotonic() + _REST_PATIENCE
    before = sum(program.cpu_seconds() for program in programs)
    while True:
        time.sleep(_REST_LOOK)
        now = sum(program.cpu_seconds() for program in programs)
        if now - before < _REST_SHARE * _REST_LOOK:
            return
        if time.monotonic() > end:
            names = ", ".join(program.name for program in programs)
            raise BenchError(f"{names}: still at work after {_REST_PATIENCE:g} s without a load")
        before = now


def listening(port: int) -> bool:
    """Whether somebody listens on `port` of the loopback."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def python(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of ours with this interpreter."""
    return [sys.executable, "-m", module, *arguments]


def appliance(*arguments: str) -> list[str]:
    """Return the command line of the `appliance` that belongs to this interpreter."""
    beside = Path(sys.executable).with_name("appliance")
    found = str(beside) if beside.exists() else shutil.which("appliance")
    if not found:
        raise BenchError("no `appliance` beside this Python: run `make bench`")
    return [found, *arguments]


def fsync_ms(folder: Path, rounds: int = 200) -> tuple[float, float]:
    """Return median and 99th percentile of a 4 KiB append and fsync in `folder`, milliseconds."""
    path, times = folder / "fsync", []
    with path.open("wb") as file:
        for _ in range(rounds):
            file.write(b"\0" * 4096)
            file.flush()
            start = time.perf_counter()
            os.fsync(file.fileno())
            times.append(1000 * (time.perf_counter() - start))
    path.unlink()
    times.sort()
    return statistics.median(times), times[len(times) * 99 // 100]


def file_system(folder: Path) -> str:
    """Return the type of the file system that `folder` is on."""
    command = ["stat", "-f", "-c", "%T", str(folder)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
