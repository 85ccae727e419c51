"""The load generator: a lean HTTP/1.1 client in a process of its own, the same for every side.

Each connection is kept alive and sends its next request only once the last one is answered (no
pipelining). Requests are bytes put together from constants, answers are parsed only as far as the
status and the length, so that little of the machine goes to the generator; what it does use is part
of its outcome.

Every body begins with a tag of its own, `NNNNNNNNN-LLLL` (request, line), so that what is stored
can be compared with what was accepted: a lost row or a row stored twice can't hide in a count.

Two ways to send:

closed loop (`rate` 0)
    Every connection sends as fast as it is answered, for `seconds` or until `count` are sent.
open loop (`rate` R)
    One request each 1/R seconds whatever the answers do; latency counts from the moment at which a
    request was due, so a server that stalls is charged for all that waited behind it. The clock is
    a timerfd, because the event loop's own timers are only good to a millisecond.

As a program it reads a `Load` as JSON from standard input and writes an `Outcome` as JSON.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import re
import sys
import time
from collections import Counter, deque
from dataclasses import asdict, dataclass, field

import uvloop

#: Seconds after the last request was sent until one without an answer is given up.
PATIENCE = 10.0
#: Characters of a tag: nine digits for the request, a dash, four for the line.
TAG_LENGTH = 14
#: Latencies that are handed on: quantiles need no more, and the reader of a million would be slow.
_KEPT_LATENCIES = 5000
#: Statuses that say that a message is kept: ours, with a row, and webdis'.
_KEPT = ("202", "201", "200")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection:[ \t]*close", re.IGNORECASE)
#: Text like a log's, no quotes, so that CSV and JSON need no escapes on any side.
_FILLER = b"host app[4711] level=info method=GET path=/v1/items/83 status=200 took=12ms agent=curl "


@dataclass
class Load:
    """What to send, and where to."""

    port: int
    paths: list[str]
    headers: dict[str, str] = field(default_factory=dict)
    method: str = "POST"
    host: str = "127.0.0.1"
    connections: int = 64
    seconds: float = 0.0
    count: int = 0
    rate: float = 0.0
    #: bytes of a body, or of each line without its newline
    size: int = 200
    #: lines in a body; 0: the body is one message
    lines: int = 0
    #: bodies of this many lengths, up to `size`
    lengths: int = 1
    #: whether each request has an `Idempotency-Key` of its own
    keyed: bool = False
    #: number of the first request: distinct loads on one database don't share tags
    first: int = 0


@dataclass
class Outcome:
    """What came of it. Times are CLOCK_MONOTONIC seconds, which all processes share."""

    started: float
    ended: float
    sent: int
    statuses: dict[str, int]
    #: requests without an answer: connection lost, or none in time
    unanswered: int
    #: seconds from sending (open loop: from when it was due) to the answer, sorted
    latencies: list[float]
    #: open loop only: [request, due, answered] of each that was accepted
    accepted: list[tuple[int, float, float]]
    cpu_seconds: float
    #: how late the generator itself sent, seconds, sorted; open loop only
    lateness: list[float] = field(default_factory=list)

    @property
    def ok(self) -> int:
        """Requests answered 202, 201 by a side that waits for the row, or 200 by webdis."""
        return sum(self.statuses.get(status, 0) for status in _KEPT)

    @property
    def failed(self) -> dict[str, int]:
        """Everything that was not accepted, by status."""
        others = {status: n for status, n in self.statuses.items() if status not in _KEPT}
        return others | ({"unanswered": self.unanswered} if self.unanswered else {})


class Bodies:
    """Makes the bodies of a load; one `replace` for a batch, whatever its number of lines."""

    _MARK = b"#########"

    def __init__(self, load: Load) -> None:
        self._lines = load.lines
        self._lengths = load.lengths
        fill = (_FILLER * (load.size // len(_FILLER) + 1))[: load.size - TAG_LENGTH - 1]
        tags = [self._MARK + b"-%04d " % n for n in range(load.lines or 1)]
        self._template = b"\n".join(tag + fill for tag in tags)
        self._tail = self._template[len(self._MARK) :]

    def body(self, number: int) -> bytes:
        """Return the body of request `number`."""
        mark = b"%09d" % number
        if self._lines:
            return self._template.replace(self._MARK, mark)
        return mark + self._tail[: len(self._tail) - number % self._lengths]


class _Connection(asyncio.Protocol):
    """One kept-alive connection; `run` is told of every answer."""

    def __init__(self, run: "_Run", path: str) -> None:
        self._run = run
        self._buffer = b""
        self._head = run.head(path)
        self.transport: asyncio.Transport
        self.number = -1  # of the request under way, or -1
        self.since = 0.0
        self.finished = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def send(self, number: int, since: float) -> None:
        self.number, self.since = number, since
        body = self._run.bodies.body(number)
        self.transport.write(self._head + self._run.rest_of_head(number, body) + body)

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data if self._buffer else data
        end = data.find(b"\r\n\r\n")
        length = _LENGTH.search(data, 0, end + 2) if end > 0 else None
        if end < 0 or (length and len(data) < end + 4 + int(length[1])):
            self._buffer = data
            return
        self._buffer = b""
        if length is None or self.number < 0 or len(data) > end + 4 + int(length[1]):
            self._answered("unreadable", stay=False)
        else:
            self._answered(data[9:12].decode(), stay=_CLOSE.search(data, 0, end + 2) is None)

    def _answered(self, status: str, *, stay: bool) -> None:
        number, self.number = self.number, -1
        self._run.answered(status, number, self.since)
        if stay:
            self._run.free(self)
        else:
            self.finished = True
            self.transport.close()
            self._run.replace(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if self.finished:
            return
        self.finished = True
        if self.number >= 0:
            self.number = -1
            self._run.lost()
        self._run.replace(self)


class _Run:
    """One load from its first request to its last answer."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.bodies = Bodies(load)
        self._loop = asyncio.get_running_loop()
        self._done = self._loop.create_future()
        self._connections: set[_Connection] = set()
        self._idle: deque[_Connection] = deque()
        self._waiting: deque[tuple[int, float]] = deque()  # open loop: due, no connection free
        self._tasks: set[asyncio.Task[None]] = set()
        self._next = load.first
        self._under_way = 0
        self._opened = 0
        self._running = False
        self._stop_at = float("inf")
        self._statuses: Counter[str] = Counter()
        self._unanswered = 0
        self._latencies: list[float] = []
        self._accepted: list[tuple[int, float, float]] = []
        self._lateness: list[float] = []

    def head(self, path: str) -> bytes:
        headers = {
            "Host": f"{self.load.host}:{self.load.port}",
            "Content-Type": "text/plain",
        } | self.load.headers
        lines = [
            f"{self.load.method} {path} HTTP/1.1",
            *(f"{k}: {v}" for k, v in headers.items()),
            "",
        ]
        return "\r\n".join(lines).encode()

    def rest_of_head(self, number: int, body: bytes) -> bytes:
        key = b"Idempotency-Key: bench-%09d\r\n" % number if self.load.keyed else b""
        return b"%bContent-Length: %d\r\n\r\n" % (key, len(body))

    async def perform(self) -> Outcome:
        await asyncio.gather(*(self._open() for _ in range(self.load.connections)))
        timer = _Ticks(self._tick, 1 / self.load.rate) if self.load.rate else None
        cpu, started = time.process_time(), time.monotonic()
        if self.load.seconds:
            self._stop_at = started + self.load.seconds
        self._running = True
        if timer:
            timer.start()
        else:
            for connection in list(self._connections):
                self._send_next(connection)
        await self._wait_until_done()
        ended, cpu = time.monotonic(), time.process_time() - cpu
        self._running = False
        if timer:
            timer.stop()
        for connection in self._connections:
            connection.finished = True
            connection.transport.abort()
        self._unanswered += self._under_way + len(self._waiting)
        return Outcome(
            started, ended, self._next - self.load.first, dict(self._statuses), self._unanswered,
            _thin(sorted(self._latencies)), self._accepted, cpu, sorted(self._lateness),
        )  # fmt: skip

    async def _wait_until_done(self) -> None:
        limit = PATIENCE + (self.load.seconds or 600.0)
        with contextlib.suppress(TimeoutError):  # what is under way is counted as unanswered
            await asyncio.wait_for(asyncio.shield(self._done), limit)

    async def _open(self) -> None:
        path = self.load.paths[self._opened % len(self.load.paths)]
        self._opened += 1
        _, connection = await self._loop.create_connection(
            lambda: _Connection(self, path), self.load.host, self.load.port
        )
        self._connections.add(connection)
        if self._running:
            self.free(connection)
        else:
            self._idle.append(connection)

    def _exhausted(self) -> bool:
        sent = self._next - self.load.first
        return time.monotonic() >= self._stop_at or bool(
            self.load.count and sent >= self.load.count
        )

    def _send_next(self, connection: _Connection) -> None:
        if self._exhausted():
            self._finish_if_quiet()
            return
        number = self._next
        self._next += 1
        self._under_way += 1
        connection.send(number, time.monotonic())

    def _tick(self, due: float) -> None:
        if self._exhausted():
            self._finish_if_quiet()
            return
        number = self._next
        self._next += 1
        self._lateness.append(time.monotonic() - due)
        if self._idle:
            self._under_way += 1
            self._idle.popleft().send(number, due)
        else:
            self._waiting.append((number, due))

    def answered(self, status: str, number: int, since: float) -> None:
        now = time.monotonic()
        self._under_way -= 1
        self._statuses[status] += 1
        self._latencies.append(now - since)
        if self.load.rate and status in _KEPT:
            self._accepted.append((number, since, now))

    def lost(self) -> None:
        self._under_way -= 1
        self._unanswered += 1

    def free(self, connection: _Connection) -> None:
        if not self.load.rate:
            self._send_next(connection)
        elif self._waiting:
            number, due = self._waiting.popleft()
            self._under_way += 1
            connection.send(number, due)
        else:
            self._idle.append(connection)
            if self._exhausted():
                self._finish_if_quiet()

    def replace(self, connection: _Connection) -> None:
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if self._running:
            task = self._loop.create_task(self._reopen())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _reopen(self) -> None:
        while self._running:
            try:
                await self._open()
            except OSError:
                await asyncio.sleep(0.05)
                if self._exhausted():
                    self._finish_if_quiet()
                    return
            else:
                return

    def _finish_if_quiet(self) -> None:
        if self._under_way == 0 and not self._waiting and not self._done.done():
            self._done.set_result(None)


class _Ticks:
    """Calls `tick(due)` at exact intervals, as many times as have passed."""

    def __init__(self, tick, interval: float) -> None:
        self._tick, self._interval = tick, interval
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._due = 0.0

    def start(self) -> None:
        first = self._due = time.monotonic() + self._interval
        seconds, rest = divmod(self._interval, 1)
        at, fraction = divmod(first, 1)
        # struct itimerspec: interval, then first expiration, each seconds and nanoseconds
        spec = (ctypes.c_long * 4)(int(seconds), int(rest * 1e9), int(at), int(fraction * 1e9))
        absolute = 1
        if self._libc.timerfd_settime(self._fd, absolute, spec, None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")
        asyncio.get_running_loop().add_reader(self._fd, self._expired)

    def _expired(self) -> None:
        for _ in range(int.from_bytes(os.read(self._fd, 8), sys.byteorder)):
            self._tick(self._due)
            self._due += self._interval

    def stop(self) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)


def _thin(ordered: list[float]) -> list[float]:
    """Keep the quantiles of sorted values, and the last."""
    step = len(ordered) / _KEPT_LATENCIES
    if step <= 1:
        return ordered
    return [ordered[int(n * step)] for n in range(_KEPT_LATENCIES)] + ordered[-1:]


async def perform(load: Load) -> Outcome:
    """Send `load` and return what came of it. Raises OSError where nobody listens."""
    return await _Run(load).perform()


def main() -> None:
    """Read a Load from standard input, write its Outcome to standard output."""
    load = Load(**json.load(sys.stdin))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        outcome = runner.run(perform(load))
    json.dump(asdict(outcome), sys.stdout)


if __name__ == "__main__":
    main()
