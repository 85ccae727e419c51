"""The hub of all consumers of a process: it gathers their orders, and has those wait that must.

A receive that waits is an object, and holds no thread. While one does, the hub looks some times a
second whether anything was committed, or a message is due to come back; a look at a database in
which nothing has changed costs one statement. What consumers ask for meanwhile is gathered, and
served in one transaction: the writer's lock is the worker's too.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import structlog

from appliance.api.http import problems
from appliance.api.http.problems import Problem
from appliance.api.http.request import Request
from appliance.api.pull import pull_answers
from appliance.api.pull.pull_options import ReceiveOptions
from appliance.auth.authorizer import Authorizer
from appliance.errors import StoreError
from appliance.machine.complaint import Complaint
from appliance.store.base import Puller
from appliance.store.subscription_rows import (
    NotServed,
    PullOrder,
    PullOutcome,
    Receive,
    Received,
    Settled,
    Settlement,
)

#: Seconds between two looks while somebody waits.
_LOOK_SECONDS: Final = 0.05
#: Seconds after which those who wait are served anew, whatever the looks said.
_CERTAIN_SECONDS: Final = 1.0
#: Seconds between the begins of two transactions: what comes meanwhile shares one.
_PACE_SECONDS: Final = 0.002
#: Seconds for which even a receive that does not wait looks through many messages of other topics.
_SEARCH_SECONDS: Final = 2.0
#: Orders of one transaction; it is a matter of milliseconds then.
_MOST_ORDERS: Final = 64
#: Bytes of answers that slow consumers have not read; above it, receives wait.
_UNREAD_BYTES: Final = 32 * 2**20

_log: Any = structlog.get_logger(__name__)


class _Asked:
    """An order, and the future of its answer: bytes, or a problem. Times are the loop's."""

    __slots__ = ("answer", "due", "order", "request", "since", "until")

    def __init__(self, request: Request, order: PullOrder, wait: float) -> None:
        loop = asyncio.get_running_loop()
        self.request = request
        self.order = order
        self.since = loop.time()
        self.until = self.since + wait
        self.due: int | None = None  # when a message comes back that it could have
        self.answer: asyncio.Future[bytes | Problem] = loop.create_future()

    def give(self, answer: bytes | Problem) -> None:
        """Answer, where nothing did yet."""
        if not self.answer.done():
            self.answer.set_result(answer)


class PullHub:
    """All consumers of a process; used on its event loop. `most` can wait at once."""

    def __init__(self, most: int, puller: Puller, authorizer: Authorizer) -> None:
        self._most = most
        self._puller = puller
        self._authorizer = authorizer
        self._generation = 0
        self._thread = ThreadPoolExecutor(1, "pull")
        self._asked: deque[_Asked] = deque()  # to be served as soon as can be
        self._waiting: list[_Asked] = []  # there was nothing for them
        self._unread = 0
        self._version = -1
        self._news = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._is_closed = False
        self._complaint = Complaint(_log, "subscriptions stand still", "subscriptions go on")

    def room(self) -> Problem | None:
        """Return why there is no room for one more receive."""
        if self._is_closed:
            return problems.too_many_streams("the API is about to end; try again in a moment")
        if len(self._waiting) + len(self._asked) < self._most:
            return None
        return problems.too_many_streams(
            f"{self._most} receives wait already; ask again later, or raise APPLIANCE_MAX_STREAMS"
        )

    async def receive(self, request: Request, options: ReceiveOptions) -> None:
        """Answer with messages as soon as there are some, or with none when the wait is over."""
        if problem := self.room():
            request.refuse(problem)
            return
        asked = self._ask(request, options.order, options.wait)
        request.on_leave(lambda: asked.give(pull_answers.received(Received([]))))
        await self._respond(asked)

    async def settle(self, request: Request, order: Settlement) -> None:
        """Answer which leases counted, once that is committed."""
        await self._respond(self._ask(request, order, 0.0))

    def stop(self) -> None:
        """Let nobody wait any more."""
        self._is_closed = True
        for asked in self._waiting:
            asked.give(pull_answers.received(Received([])))
        self._news.set()

    def close(self) -> None:
        """End; everything is answered."""
        if self._running is not None:
            self._running.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _ask(self, request: Request, order: PullOrder, wait: float) -> _Asked:
        asked = _Asked(request, order, wait)
        self._asked.append(asked)
        self._news.set()
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        return asked

    async def _respond(self, asked: _Asked) -> None:
        request, answer = asked.request, await asked.answer
        if isinstance(answer, Problem):
            request.refuse(answer)
            return
        request.respond(200, pull_answers.HEADERS, answer)
        if not request.has_room:
            # The next one of this connection is not read meanwhile, but others go on receiving.
            size = request.unsent
            self._unread += size
            await request.drained()
            self._unread -= size
            self._news.set()

    # --- one task for all ------------------------------------------------------------------------

    async def _run(self) -> None:
        """Serve what is asked, and look for those who wait, until there is nobody."""
        loop = asyncio.get_running_loop()
        looked = certain = loop.time()
        while self._asked or self._waiting:
            self._news.clear()
            self._end_waits(loop.time())
            batch = self._batch()
            if batch:
                began = loop.time()
                await self._serve(batch)
                await asyncio.sleep(max(0.0, began + _PACE_SECONDS - loop.time()))
                if loop.time() < looked + _LOOK_SECONDS:
                    continue
            elif self._waiting or self._asked:
                await self._pause(looked + _LOOK_SECONDS - loop.time())
                if loop.time() < looked + _LOOK_SECONDS:
                    continue  # somebody asks
            looked = loop.time()
            is_certain = looked >= certain + _CERTAIN_SECONDS
            if is_certain:
                certain = looked
            await self._look(is_certain=is_certain)

    async def _pause(self, seconds: float) -> None:
        """Return after some time, or at once where somebody asks."""
        try:
            await asyncio.wait_for(self._news.wait(), max(0.0, seconds))
        except TimeoutError:
            return

    def _batch(self) -> list[_Asked]:
        """Return what is served next; receives wait while too much was not read by its consumers.

        Acknowledgements never do.
        """
        batch: list[_Asked] = []
        held: list[_Asked] = []
        while self._asked and len(batch) < _MOST_ORDERS:
            asked = self._asked.popleft()
            if not isinstance(asked.order, Receive):
                batch.append(asked)  # it counts, whether its consumer is still there or not
            elif asked.answer.done() or asked.request.has_gone:
                asked.give(b"")
            elif self._unread > _UNREAD_BYTES:
                held.append(asked)
            else:
                batch.append(asked)
        self._asked.extendleft(reversed(held))
        return batch

    async def _serve(self, batch: Sequence[_Asked]) -> None:
        loop = asyncio.get_running_loop()
        orders = [asked.order for asked in batch]
        try:
            outcomes = await loop.run_in_executor(self._thread, self._served, orders)
        except Exception as error:  # noqa: BLE001  # each of them is told
            for asked in batch:
                if not asked.answer.done():
                    asked.answer.set_exception(error)
            return
        now = loop.time()
        for asked, (outcome, answer) in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Received) and not outcome.messages and not self._is_closed:
                if outcome.is_partial and now < max(asked.until, asked.since + _SEARCH_SECONDS):
                    self._asked.append(asked)
                    continue
                if now < asked.until:
                    asked.due = outcome.due
                    self._waiting.append(asked)
                    continue
            asked.give(answer)

    def _served(self, orders: Sequence[PullOrder]) -> list[tuple[PullOutcome, bytes | Problem]]:
        """Serve, and make the answers: in the thread, since bodies can be large."""
        outcomes = self._puller.serve(orders)
        return [
            (outcome, _answer(order, outcome))
            for order, outcome in zip(orders, outcomes, strict=True)
        ]

    def _end_waits(self, now: float) -> None:
        """End the waits that are over, and those of callers that may not wait any more."""
        if self._generation != self._authorizer.generation:
            self._generation = self._authorizer.generation
            for asked in (*self._waiting, *self._asked):
                if not self._authorizer.holds(asked.request.admission.principal):
                    asked.give(problems.unauthorized())
        for asked in self._waiting:
            if now >= asked.until or self._is_closed:
                asked.give(pull_answers.received(Received([])))
        self._waiting = [asked for asked in self._waiting if not asked.answer.done()]

    async def _look(self, *, is_certain: bool) -> None:
        """Have those served anew for whom there can be something now."""
        if not self._waiting:
            return
        loop = asyncio.get_running_loop()
        try:
            version = await loop.run_in_executor(self._thread, self._puller.version)
        except StoreError as error:
            self._complaint.fails(error=str(error))
            return
        self._complaint.works()
        is_new = is_certain or version != self._version
        self._version = version
        now = time.time_ns() // 1_000_000
        still: list[_Asked] = []
        for asked in self._waiting:
            is_due = is_new or (asked.due is not None and asked.due <= now)
            (self._asked if is_due else still).append(asked)
        self._waiting = still


def _answer(order: PullOrder, outcome: PullOutcome) -> bytes | Problem:
    if isinstance(outcome, NotServed):
        return pull_answers.not_served(order, outcome)
    if isinstance(outcome, Settled) and isinstance(order, Settlement):
        return pull_answers.settled(order, outcome)
    assert isinstance(outcome, Received)  # noqa: S101  # of a receive
    return pull_answers.received(outcome)
