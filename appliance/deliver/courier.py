"""The courier of one endpoint: takes the next message, tries it, and decides on its fate.

Whatever becomes of an attempt is gathered, and the engine stores it a moment later together with
the cursor. So a crash repeats what was under way, and passes nothing over.
"""

import asyncio
import random
import time
from collections.abc import Iterable
from contextlib import suppress
from math import inf
from typing import Any, Final

import structlog

from appliance.deliver.breaker import Breaker
from appliance.deliver.delivery_plan import DeliveryPlan
from appliance.deliver.delivery_request import RequestMaker
from appliance.deliver.http_client import HttpAnswer, HttpClient, NoAnswerError
from appliance.deliver.jobs import Job
from appliance.deliver.results import Results
from appliance.deliver.stock import CourierBegin, CourierDesk, Stock
from appliance.errors import StoreError
from appliance.machine.complaint import Complaint
from appliance.model import meta as metas
from appliance.model import retry_schedule, timestamps
from appliance.model.grants import Rate
from appliance.store.endpoint_rows import GONE_REASON, DeliveryOutcome
from appliance.store.replay_rows import ReplayWork

#: Characters of words about an attempt.
_MOST_WORDS: Final = 300
#: Seconds until the database is asked again after it failed.
_STORE_PAUSE: Final = 1.0
#: Seconds until a clock is looked at again, at most: it can be set.
_CLOCK_SECONDS: Final = 60.0
#: The answer by which an endpoint says that it wants no messages any more (Standard Webhooks).
_GONE: Final = 410
_GOOD: Final = range(200, 300)

_log: Any = structlog.get_logger(__name__)


class Courier:
    """Delivers the messages of one endpoint until it is told to leave."""

    def __init__(
        self, plan: DeliveryPlan, client: HttpClient, desk: CourierDesk, begin: CourierBegin
    ) -> None:
        row = plan.outfit.row
        log = _log.bind(endpoint=row.name)
        self.plan = plan
        self._log = log
        self._client = client
        self._desk = desk
        self._maker = RequestMaker(
            plan.url, plan.outfit.secrets, plan.settings.headers, plan.outfit.headers
        )
        self._results = Results(row.id, row.cursor, log)
        crowded = Complaint(
            log, "endpoint has too much undelivered", "endpoint takes messages again"
        )
        self._stock = Stock(plan, desk, begin, self._results.lose, crowded)
        self._breaker = Breaker(
            random.random, row.failures, row.broken_at, row.retry_at, row.trouble
        )
        self._failing = Complaint(log, "endpoint failing", "endpoint well again")
        if self._breaker.is_open:
            self._failing.fails(error=row.trouble)
        self._bucket = _Bucket(plan.rate)
        self._is_leaving = self._is_forgetful = False
        self._wake = asyncio.Event()
        self._crash: BaseException | None = None
        self._under_way: set[asyncio.Task[None]] = set()
        self._running = asyncio.create_task(self._run())
        self._running.add_done_callback(self._note_crash)

    @property
    def bytes(self) -> int:
        """Bytes of bodies in hand."""
        return self._stock.bytes

    @property
    def cursor(self) -> int:
        """The place up to which all messages are dealt with."""
        return self._stock.window.cursor

    @property
    def broken_at(self) -> float | None:
        """Unix time since which messages wait because attempts failed; None: they don't."""
        return self._breaker.broken_at

    @property
    def is_gone(self) -> bool:
        """Whether it was told to leave and has nothing under way."""
        return self._is_leaving and not self._under_way and self._running.done()

    @property
    def is_idle(self) -> bool:
        """Whether it has nothing under way."""
        return not self._under_way

    def check(self) -> None:
        """Raise what ended a task of this courier that should not have ended."""
        if self._crash is not None:
            raise self._crash

    def look(self, *, due: bool) -> None:
        """Look for work again; with `due` also for rows that others have made due."""
        if due:
            self._stock.look_for_due()
        self._wake.set()

    @property
    def is_crowded(self) -> bool:
        """Whether so much is undelivered that the cursor stays."""
        return self._stock.is_crowded

    def recount(self, unfinished: int) -> None:
        """Take over how many messages wait or were given up: others may have discarded some."""
        self._stock.unfinished = unfinished

    def tell(self, works: Iterable[ReplayWork]) -> None:
        """Say which replays to this endpoint are running, the oldest first."""
        self._stock.replays.tell(works)
        self._wake.set()

    def leave(self, *, forget: bool = False) -> None:
        """Begin nothing more; with `forget`, whoever comes next finds the breaker closed."""
        self._is_leaving = True
        self._is_forgetful |= forget
        self._wake.set()

    async def gone(self, seconds: float) -> None:
        """Give what is under way some seconds to end, then end it."""
        tasks = [self._running, *self._under_way]
        await asyncio.wait(tasks, timeout=seconds)
        self.abort()
        await asyncio.gather(*tasks, return_exceptions=True)

    def abort(self) -> None:
        """End what is under way: its messages are delivered again."""
        for task in self._under_way:
            task.cancel()
        self._running.cancel()
        self._client.close()

    def collect(self, outcome: DeliveryOutcome, *, all_of_it: bool) -> list[int] | None:
        """Add what came of attempts since the last call; see `Results.collect`."""
        breaker = None if self._is_forgetful else self._breaker
        stock = self._stock
        has_more = stock.replays.collect(outcome, all_of_it=all_of_it)
        return self._results.collect(
            outcome, stock.window.cursor, stock.lanes, breaker, all_of_it=all_of_it,
            has_more=has_more,
        )  # fmt: skip

    def is_stored(self, settled: list[int]) -> None:
        """Note that what was collected is in the database."""
        if settled:
            self._stock.settle([number for number in settled if number])
        self._wake.set()

    async def _run(self) -> None:
        while not self._is_leaving:
            self._wake.clear()
            try:
                pause = await self._fill()
            except StoreError:  # the desk has said so
                pause = _STORE_PAUSE
            with suppress(TimeoutError):
                async with asyncio.timeout(None if pause == inf else max(0.001, pause)):
                    await self._wake.wait()
        self._client.close()

    async def _fill(self) -> float:
        """Begin as many attempts as there may be; return the seconds until more may be possible.

        Whatever else makes more possible wakes the courier.
        """
        while not self._is_leaving:
            now = time.time()
            if wait := self._wait(now):
                return wait
            job = await self._stock.next(now)
            if job is None:
                return min(self._stock.next_at - now, _CLOCK_SECONDS)
            if _is_over(job, now):
                self._pass_over(job)
                continue
            self._bucket.take()
            job.is_probe = self._breaker.is_open
            task = asyncio.get_running_loop().create_task(self._attempt(job))
            self._under_way.add(task)
            task.add_done_callback(self._end)
        return inf

    def _wait(self, now: float) -> float:
        """Return the seconds until an attempt may begin; infinite until one has ended."""
        breaker = self._breaker
        if self._desk.is_held:
            return _STORE_PAUSE
        if len(self._under_way) >= (1 if breaker.is_open else self.plan.settings.concurrency):
            return inf
        if breaker.retry_at is not None and now < breaker.retry_at:
            return min(breaker.retry_at - now, _CLOCK_SECONDS)
        return self._bucket.wait()

    def _end(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._wake.set()
        self._note_crash(task)

    def _note_crash(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            self._crash = error

    async def _attempt(self, job: Job) -> None:
        message, began, clock = job.message, time.time(), time.monotonic()
        answer: HttpAnswer | None = None
        try:
            head = self._maker.head(message, int(began), job.replay)
            answer = await self._client.post(head, message.body, self.plan.settings.timeout)
            words = "" if answer.status in _GOOD else f"answered {answer.status}"
        except NoAnswerError as error:
            words = str(error)[:_MOST_WORDS]
        finally:
            self._stock.let_go(job)
        job.attempts += 1
        job.first_at = job.first_at or began
        status, body = (answer.status, answer.body) if answer else (None, b"")
        self._results.attempted(job, began, time.monotonic() - clock, status, words, body)
        if words:
            self._fail(job, answer, words)
        else:
            self._succeed(job)

    def _pass_over(self, job: Job) -> None:
        """Let go of a message that is over: it was read before it was, and waited since."""
        self._stock.let_go(job)
        if job.due is not None:
            self._results.lose(job.due)
            self._stock.unfinished += 1
            return
        if (flow := self._stock.replays.of(job)) is not None:
            flow.pass_over(job)
            return
        self._results.pass_over()
        if job.is_lane:
            self._stock.lanes.advance(job.message.topic, time.time())
        else:
            self._stock.window.finish(job)

    def _succeed(self, job: Job) -> None:
        if self._breaker.succeeds():
            self._failing.works()
        if job.due is not None:
            self._results.done(job.due)
            if job.replay is not None:
                self._stock.replays.late(job.replay)
        elif (flow := self._stock.replays.of(job)) is not None:
            flow.succeed(job)
        elif job.is_lane:
            self._stock.lanes.advance(job.message.topic, time.time())
        else:
            self._stock.window.finish(job)

    def _fail(self, job: Job, answer: HttpAnswer | None, words: str) -> None:
        now, breaker = time.time(), self._breaker
        status = answer and answer.status
        wish = retry_schedule.retry_after(answer.retry_after, now) if answer else None
        if status == _GONE:
            if not self._is_leaving:
                self._results.pause = GONE_REASON
                self._log.warning("endpoint paused", reason=self._results.pause)
            self._stock.put_back(job)
            self.leave()
            return
        if breaker.fails(words, now, status, wish, is_probe=job.is_probe):
            self._failing.fails(error=words)
        if breaker.is_open and not job.is_probe and job.due is None and not job.is_lane:
            # It is tried again when the endpoint is well: nothing is to be kept of it.
            self._stock.put_back(job)
            return
        due_at = retry_schedule.next_attempt(
            job.attempts, now, job.first_at, self.plan.settings.lifetime, wish, random.random
        )
        self._postpone(job, status, words, due_at)

    def _postpone(self, job: Job, status: int | None, words: str, due_at: float | None) -> None:
        """Let a message wait, or give it up where there is no time for it."""
        stock, topic, is_ordered = self._stock, job.message.topic, self.plan.settings.ordered
        if due_at is None or job.due is not None or not (is_ordered or job.is_lane):
            self._results.wait(job, status, words, due_at)
            stock.unfinished += 1
        if job.due is not None:
            return
        if (flow := stock.replays.of(job)) is not None:
            if is_ordered and due_at is not None:
                flow.hold(job, due_at)
            else:
                flow.leave(job)
        elif job.is_lane:
            if due_at is None:
                stock.lanes.advance(topic, time.time())
            else:
                stock.lanes.wait(topic, self._results.lane(job, words, due_at))
        elif is_ordered and due_at is not None:
            stock.lanes.open(self._results.lane(job, words, due_at))
            stock.window.leave_topic(job)
        else:
            stock.window.finish(job)


def _is_over(job: Job, now: float) -> bool:
    at = metas.expires_at(job.message.meta)
    return at is not None and at <= timestamps.timestamp(now)


class _Bucket:
    """Lets so many requests begin in a time, evenly; `wait` says in how many seconds the next."""

    def __init__(self, rate: Rate | None) -> None:
        self._pace = rate.seconds / rate.requests if rate else 0.0
        self._next = 0.0

    def wait(self) -> float:
        return max(0.0, self._next - time.monotonic()) if self._pace else 0.0

    def take(self) -> None:
        # One that begins late is no reason for the next one to be late.
        now = time.monotonic()
        self._next = max(self._next, now - max(0.05, self._pace)) + self._pace
