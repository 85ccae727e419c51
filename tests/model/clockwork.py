"""Time and threads that stand still until the test moves them.

A process of the appliance is an event loop and a few threads. Here the loop runs only when it is
told to, its clock is the test's, and a thread of it is a strand: it runs only while the test waits
for it, from one place where it would wait to the next. So each order of events that the test
chooses is one that could happen, and happens the same way each time.
"""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from queue import Empty
from typing import Any

FOREVER = float("inf")
#: Seconds: the shortest wait, because a clock that does not move would never reach its end.
TICK = 1e-6


class Clock:
    """Stands for the module `time` where one of ours asks it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Killed(BaseException):
    """Ends a strand where it stands, as kill -9 ends a thread."""


def _closed_gate() -> threading.Lock:
    gate = threading.Lock()
    gate.acquire()
    return gate


class Strand:
    """A thread that has a turn only while `resume` waits for it."""

    running: "Strand | None" = None

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work
        self._go, self._back = _closed_gate(), _closed_gate()
        self._killed = False
        self._until = 0.0
        self._wakes: Callable[[], bool] = lambda: True
        self.ended = False
        self.result: Any = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._go.acquire()
        try:
            if not self._killed:
                self.result = self._work()
        except BaseException as error:  # noqa: BLE001  # whoever waits is told
            self.error = error
        self.ended = True
        self._back.release()

    def resume(self) -> None:
        """Give it its turn, until it parks or ends."""
        before, Strand.running = Strand.running, self
        self._go.release()
        self._back.acquire()
        Strand.running = before
        if self.ended:
            self._thread.join()

    def kill(self) -> None:
        while not self.ended:
            self._killed = True
            self.resume()

    def park(self, until: float = FOREVER, wakes: Callable[[], bool] = lambda: False) -> None:
        """Give the turn back; called by its own thread, where it would wait."""
        self._until, self._wakes = until, wakes
        self._back.release()
        self._go.acquire()
        if self._killed:
            raise Killed

    def can_go_on(self, now: float) -> bool:
        return not self.ended and (now >= self._until or self._wakes())

    @property
    def until(self) -> float:
        return FOREVER if self.ended else self._until


def park(until: float = FOREVER, wakes: Callable[[], bool] = lambda: False) -> None:
    """Park the strand that runs."""
    assert Strand.running is not None, "only a strand can wait"
    Strand.running.park(until, wakes)


class StrandQueue:
    """A queue.SimpleQueue whose `get` parks."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._items: deque[Any] = deque()
        #: How many items the next turn finds; the others are as if they came after it.
        self.within_reach = FOREVER

    def put(self, item: Any) -> None:
        self._items.append(item)

    def get(self, timeout: float) -> Any:
        until = self._clock.now + max(timeout, TICK)
        while True:
            park(until, lambda: bool(self._items))
            if self._items:
                return self._take()
            if self._clock.now >= until:
                raise Empty

    def get_nowait(self) -> Any:
        if not self._items or self.within_reach <= 0:
            raise Empty
        return self._take()

    def is_empty(self) -> bool:
        return not self._items

    def _take(self) -> Any:
        self.within_reach -= 1
        return self._items.popleft()


class StrandEvent:
    """A threading.Event whose `wait` parks."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._is_set = False

    def set(self) -> None:
        self._is_set = True

    def clear(self) -> None:
        self._is_set = False

    def is_set(self) -> bool:
        return self._is_set

    def wait(self, timeout: float | None = None) -> bool:
        until = FOREVER if timeout is None else self._clock.now + max(timeout, TICK)
        while not self._is_set and self._clock.now < until:
            park(until, lambda: self._is_set)
        return self._is_set


class _Nothing:
    """A selector without a file."""

    def select(self, timeout: float | None) -> list[Any]:
        return []


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop on the test's clock; `run_ready` runs what is due and returns."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._selector = _Nothing()
        self._virtual = clock
        self._strands: list[tuple[Strand, asyncio.Future[Any]]] = []
        self.signal_handlers: dict[int, Callable[[], Any]] = {}
        self.errors: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.errors.append(context))

    def time(self) -> float:
        return self._virtual.now

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def add_signal_handler(self, sig: int, callback: Callable[..., Any], *args: Any) -> None:
        self.signal_handlers[sig] = partial(callback, *args)

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        future = self.create_future()
        strand = Strand(partial(func, *args))
        self._strands.append((strand, future))
        self._resume(strand)
        return future

    def start_strand(self, work: Callable[[], Any]) -> "asyncio.Future[Any]":
        """Start a thread that belongs to this loop's process."""
        return self.run_in_executor(None, work)

    def is_busy(self) -> bool:
        """Whether a thread of it has not ended."""
        return bool(self._strands)

    def run_strands(self) -> bool:
        """Give each strand that can go on one turn; return whether any could."""
        able = [strand for strand, _ in self._strands if strand.can_go_on(self._virtual.now)]
        for strand in able:
            self._resume(strand)
        return bool(able)

    def _resume(self, strand: Strand) -> None:
        strand.resume()
        for pair in [pair for pair in self._strands if pair[0].ended]:
            self._strands.remove(pair)
            ended, future = pair
            if isinstance(ended.error, Killed) or future.done():
                continue
            if ended.error is not None:
                future.set_exception(ended.error)
            else:
                future.set_result(ended.result)

    def run_ready(self) -> bool:
        """Run all that is due now, and what follows from it; return whether there was anything."""
        worked = False
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        self._thread_id = threading.get_ident()
        try:
            while self._ready or self._is_due():
                worked = True
                self._run_once()
        finally:
            self._thread_id = None
            asyncio._set_running_loop(before)
        return worked

    def _is_due(self) -> bool:
        return bool(self._scheduled) and self._scheduled[0].when() <= self._virtual.now

    def next_time(self) -> float:
        """Return when something happens by itself."""
        timer = self._scheduled[0].when() if self._scheduled else FOREVER
        return min([timer, *(strand.until for strand, _ in self._strands)])

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function on this loop, and return what it returns."""
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        try:
            return function(*args)
        finally:
            asyncio._set_running_loop(before)

    def kill(self) -> None:
        """End all that runs here, wherever it is."""
        for strand, _ in self._strands:
            strand.kill()
        self._strands.clear()
        for _ in range(20):
            tasks = asyncio.all_tasks(self)
            if not tasks:
                break
            for task in tasks:
                task.cancel()
            with contextlib.suppress(asyncio.InvalidStateError):
                self.run_ready()
        self.close()
