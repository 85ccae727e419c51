"""The worker: consume, store, acknowledge.

Two threads do that. One runs the event loop and speaks AMQP, so that heartbeats are answered
whatever the disk does. The other stores all deliveries that have arrived, in one transaction; once
that is on disk, the loop acknowledges them. While one transaction commits, the next one gathers. So
the worker never waits for more when few messages come, and makes few commits when many come; then
it also lets some milliseconds pass between two of them (see `model.pace`).

The ledger entries are written, and the envelopes acknowledged, up to twenty times a second and not
with every transaction: under load that saves a page of the database and an entry of the broker's
log each time. An envelope that is stored and not acknowledged yet comes again after a crash, is not
stored again, and gets its ledger entry then.

Each thread beats for itself, so that a hang of either shows (see `machine.pulse`).

No failure of the store (a full disk, a lock, an I/O error) loses a message: the worker holds its
deliveries and tries again, on a fresh connection, for as long as it takes. A message that the
database would refuse for ever becomes a dead letter instead (see `store.salvage`).
"""

import asyncio
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import structlog

from appliance.broker.base import Consumer, Delivery
from appliance.delayed_mover import DelayedMover
from appliance.deletion import Deleter
from appliance.errors import (
    DamagedError,
    FewCopiesError,
    LostCommitsError,
    MovedError,
    OldPrimaryError,
    SchemaError,
    StoreError,
    StoreFullError,
    TablesError,
    UnstorableError,
)
from appliance.machine.allowance import Allowance
from appliance.machine.complaint import Complaint
from appliance.machine.pulse import BEAT_SECONDS, TROUBLE, Pulse
from appliance.machine.ticks import tick, until_tick
from appliance.model.contents import (
    Content,
    DeadEnvelope,
    DeadLetter,
    DeletionMark,
    ForeignMessage,
    LedgerReport,
)
from appliance.model.pace import WritePace
from appliance.model.wire import Envelope
from appliance.replay_copier import ReplayCopier
from appliance.store.base import Writer
from appliance.store.salvage import store_each

#: Names of the two loops whose beats make the worker's pulse.
CONSUMING: Final = "consuming"
STORING: Final = "storing"
#: Owed ledger entries are those of envelopes that are stored. They are written once there are as
#: many as the allowance says, or after so many seconds, or with a transaction of so many bytes that
#: they add nothing.
_OWED_SECONDS: Final = 0.05
_OWED_BYTES: Final = 64 * 1024
#: Seconds between attempts to store: doubled from the first to the last.
_BACKOFF_FIRST: Final = 0.1
_BACKOFF_LAST: Final = 5.0
#: Seconds that a stop waits for the transaction under way; the supervisor kills after 8.
_DRAIN: Final = 6.0
#: Seconds without a delivery after which the writer gives back memory, where so many bytes were
#: stored since the last time: to take it again costs 30 ms, a hundredth of what storing them does.
_REST_AFTER: Final = 1.0
_REST_BYTES: Final = 64 * 2**20
#: Kinds of contents that are no rows.
_DEAD: Final = frozenset({DeadLetter, DeadEnvelope})
#: Beats in a minute: the status shows how many envelopes were stored in the last one.
_MINUTE: Final = int(60 / BEAT_SECONDS)

#: Errors of the store in words that name no path.
_REASONS: Final = {
    StoreFullError: "the store's disk is full",
    DamagedError: "the database is damaged",
    MovedError: "the messages were moved to another database",
    SchemaError: "the database is not at this program's schema",
    TablesError: "the database's tables were changed so that they take no message",
    FewCopiesError: "fewer synchronous copies of the database than the settings ask for",
    OldPrimaryError: "the database that answers is an old primary, and another took its place",
}

_log: Any = structlog.get_logger(__name__)


class Worker:
    """Runs until SIGTERM or SIGINT; then stores and acknowledges the deliveries that it has."""

    def __init__(
        self,
        pulse: Pulse,
        consumer: Consumer,
        open_writer: Callable[[], Writer],
        allowed: Allowance,
        check_foreign: Callable[[Sequence[Content], Callable[[], None]], list[Content]],
        deleter: Deleter,
        mover: DelayedMover,
        copier: ReplayCopier,
    ) -> None:
        self._pulse = pulse
        self._copier = copier
        self._deleter = deleter
        self._mover = mover
        # Bytes stored in one transaction: they bound how long the writer is held, and the memory.
        self._group_bytes = allowed.group
        self._owed_envelopes = allowed.owed
        self._consumer = consumer
        self._open_writer = open_writer
        self._check_foreign = check_foreign
        self._stored = 0  # envelopes
        self._holding_since = 0.0  # on the monotonic clock; 0: nothing is in hand
        self._trouble = ""
        self._deliveries: queue.SimpleQueue[Delivery | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._owed: list[LedgerReport] = []  # one for each envelope stored and not acknowledged
        self._accounted_at = 0.0
        self._stored_at = 0.0  # on the monotonic clock
        self._stored_bytes = 0  # since the writer last gave memory back
        self._pace = WritePace()
        self._storing = Complaint(_log, "storing failed", "storing works again", level="error")
        self._opening = Complaint(_log, "waiting for the database", "database usable", level="info")

    @property
    def holding_seconds(self) -> float:
        """Seconds since it began to store what it has in hand; 0 where it has nothing."""
        since = self._holding_since
        return time.monotonic() - since if since else 0.0

    async def run(self) -> None:
        """Consume and store until told to stop."""
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        storing = asyncio.create_task(asyncio.to_thread(self._store_all, loop))
        consuming = asyncio.create_task(self._consume_when_ready())
        stopped = asyncio.create_task(stop.wait())
        living = asyncio.create_task(self._live())
        deleting = asyncio.create_task(asyncio.to_thread(self._deleter.run))
        moving = asyncio.create_task(asyncio.to_thread(self._mover.run))
        copying = asyncio.create_task(asyncio.to_thread(self._copier.run))
        await asyncio.wait({storing, consuming, stopped}, return_when=asyncio.FIRST_COMPLETED)
        # The consumer is not cancelled: the broker would at once make the next worker the active
        # one, which would store later messages while this one still commits. Deliveries behind the
        # None go back to their places in the queue when the connection ends.
        self._pulse.stopping()
        self._stopping.set()
        self._deleter.stop()
        self._mover.stop()
        self._copier.stop()
        # The last to close the database empties its log into it, which a connection that only reads
        # can't: so the mover's and the copier's are closed before the writer's.
        await asyncio.wait({moving, copying}, timeout=_DRAIN)
        self._deliveries.put(None)
        done, _ = await asyncio.wait({storing}, timeout=_DRAIN)
        await self._consumer.stop()
        consuming.cancel()
        await asyncio.gather(consuming, return_exceptions=True)
        stopped.cancel()
        living.cancel()
        await asyncio.wait({deleting}, timeout=_DRAIN)
        for task in done:
            task.result()

    async def _live(self) -> None:
        """Beat for the event loop, and show in the status what the worker does."""
        earlier: deque[int] = deque([0], maxlen=_MINUTE)
        while True:
            self._pulse.beat(CONSUMING)
            if self._consumer.consuming:
                self._pulse.ready()
                activity = f"{self._stored - earlier[0]} envelopes stored in the last minute"
            else:
                activity = "waiting for the queue"
            self._pulse.status(self._trouble or activity)
            earlier.append(self._stored)
            await tick(BEAT_SECONDS)

    async def _consume_when_ready(self) -> None:
        """Wait for the schema, then consume: a worker that can't store must not hold messages."""
        writer = await asyncio.to_thread(self._open)
        if writer is not None:
            writer.close()
            self._deleter.wake()  # for what a worker before left
            self._mover.wake()
            self._copier.wake()
            await self._consumer.run(self._deliveries.put)

    def _store_all(self, loop: asyncio.AbstractEventLoop) -> None:
        """Store the deliveries in the order of their arrival, until a None among them."""
        writer: Writer | None = None
        acknowledge = self._consumer.acknowledge
        latest: Delivery | None = None
        last = False
        while not last:
            group, last = self._gather(writer)
            account = last or self._is_time_to_account(group)
            if not group and not (account and self._owed):
                writer = self._look_after(writer)
                continue
            self._holding_since = now = time.monotonic()
            messages, size = _measure(group)
            self._pace.begin(now, messages, size)
            writer = self._store(group, writer, account=account)
            self._holding_since = 0.0
            if writer is None:
                break
            self._stored_at = time.monotonic()
            self._stored_bytes += size
            if self._consumer.drains:
                loop.call_soon_threadsafe(self._consumer.acknowledge_drained, group)
                group = [delivery for delivery in group if not delivery.is_drained]
            latest = group[-1] if group else latest
            if account and latest is not None:
                loop.call_soon_threadsafe(acknowledge, latest)
                latest = None
        if writer is not None:
            writer.close()

    def _look_after(self, writer: Writer | None) -> Writer | None:
        """Return the idle writer; None where its database was taken away, which must be seen soon.

        One that has stored much, and is idle, gives memory back. Raises LostCommitsError.
        """
        if writer is None:
            return None
        try:
            writer.check()
            if (
                self._stored_bytes >= _REST_BYTES
                and time.monotonic() >= self._stored_at + _REST_AFTER
            ):
                self._stored_bytes = 0
                writer.rest()
        except LostCommitsError:
            raise
        except StoreError as error:
            writer.close()
            self._storing.fails(kind=type(error).__name__, error=str(error))
            return None
        return writer

    def _is_time_to_account(self, group: list[Delivery]) -> bool:
        """Whether to write the owed ledger entries, and to acknowledge, with this group."""
        return (
            len(self._owed) + len(group) >= self._owed_envelopes
            or time.monotonic() >= self._accounted_at + _OWED_SECONDS
            or sum(len(delivery.content.body) for delivery in group) >= _OWED_BYTES
        )

    def _gather(self, writer: Writer | None) -> tuple[list[Delivery], bool]:
        """Wait for one delivery, and take all others that have arrived with it.

        While many come, and nobody waits for their rows, it lets more arrive.

        Returns them, and whether they are the last. There are none where owed ledger entries are
        due before a delivery arrives, or none arrives for a while.
        """
        group: list[Delivery] = []
        size = 0
        try:
            delivery = self._next()
        except queue.Empty:
            return group, False
        seconds = 0.0 if delivery is None else self._pace.wait(time.monotonic())
        if seconds and not (writer is not None and writer.is_awaited):
            self._stopping.wait(seconds)
        while True:
            if delivery is None:
                return group, True
            # One of an earlier connection comes again, perhaps to another worker.
            if self._consumer.is_current(delivery):
                group.append(delivery)
                size += len(delivery.content.body)
            if size >= self._group_bytes:
                return group, False
            try:
                delivery = self._deliveries.get_nowait()
            except queue.Empty:
                return group, False

    def _next(self) -> Delivery | None:
        """Wait for the next delivery, and beat.

        Raises queue.Empty when owed ledger entries are due first, or the next beat is.
        """
        self._pulse.beat(STORING)
        if self._owed:
            wait = self._accounted_at + _OWED_SECONDS - time.monotonic()
            return self._deliveries.get(timeout=max(0, wait))
        return self._deliveries.get(timeout=until_tick(BEAT_SECONDS))

    def _store(
        self, group: list[Delivery], writer: Writer | None, *, account: bool
    ) -> Writer | None:
        """Store a group, however long it takes; return None where the stop came first."""
        contents: list[Content] = [delivery.content for delivery in group]
        kinds = set(map(type, contents))

        def attempt() -> Writer:
            nonlocal writer, contents, kinds
            if ForeignMessage in kinds:  # the API has checked all others
                contents = self._check_foreign(contents, partial(self._pulse.beat, STORING))
                kinds = {*map(type, contents)} - {ForeignMessage}
            owed: list[Content] = [*self._owed, *contents]
            writer = writer or self._open_writer()
            try:
                missing = writer.store(owed if account else contents, account=account)
            except UnstorableError:
                writer.close()
                writer = None
                # This writes every ledger entry, so the owed ones come first.
                missing = store_each(self._open_writer, owed)
                writer = self._open_writer()
            except StoreError:
                writer.close()
                writer = None
                raise
            if missing:
                # `appliance verify` names them.
                _log.error("confirmed envelopes missing", missing=missing)
            return writer

        open_writer = self._until_it_works(attempt, self._storing, "can't store, holding messages")
        if open_writer is not None:
            if account:
                self._owed, self._accounted_at = [], time.monotonic()
            else:
                self._owed += [LedgerReport(c.ledger, c.received_at) for c in contents]
            dead = sum(type(each) in _DEAD for each in contents) if kinds & _DEAD else 0
            if DeletionMark in kinds:
                self._deleter.wake()
            self._stored += len(group)
            _log.debug("envelopes stored", envelopes=len(group), dead=dead)
        return open_writer

    def _open(self) -> Writer | None:
        return self._until_it_works(self._open_writer, self._opening, "waiting for the database")

    def _until_it_works(
        self, attempt: Callable[[], Writer], complaint: Complaint, doing: str
    ) -> Writer | None:
        """Try again with back-off until it works; return None where the stop came first."""
        delay = _BACKOFF_FIRST
        while True:
            self._pulse.beat(STORING)
            try:
                writer = attempt()
            except LostCommitsError:
                # What is stored and not acknowledged may be gone. So the process ends: it comes
                # again, to whoever stores next.
                raise
            except StoreError as error:
                self._trouble = f"{doing}: {error}"
                self._pulse.tell(TROUBLE, _public_reason(error))
                level = "info" if isinstance(error, SchemaError) else None
                complaint.fails(kind=type(error).__name__, level=level, error=str(error))
            else:
                if self._trouble:
                    self._trouble = ""
                    self._pulse.tell(TROUBLE, "")
                complaint.works()
                return writer
            if self._stopping.wait(delay):
                return None
            delay = min(delay * 2, _BACKOFF_LAST)


def _measure(group: Sequence[Delivery]) -> tuple[int, int]:
    """Return the messages of a group, and its bytes."""
    contents = [delivery.content for delivery in group]
    messages = sum(each.count if isinstance(each, Envelope) else 1 for each in contents)
    return messages, sum(len(each.body) for each in contents)


def _public_reason(error: StoreError) -> str:
    """Return the error in words that name no path: `/readyz` shows them to everyone."""
    for kind, words in _REASONS.items():
        if isinstance(error, kind):
            return words
    return "the database can't be written"
