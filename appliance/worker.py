"""The worker: consume, store, acknowledge.

Two threads. One runs the event loop: it speaks AMQP, so that heartbeats are answered whatever the
disk does. The other stores: it takes all that has come, in one transaction, and only when that is
on disk has the loop acknowledge it. While one transaction commits, the next one gathers; so there
is no waiting for more when little comes, and few commits when much does.

The envelopes' numbers are written down, and the envelopes acknowledged, not with every transaction
but up to twenty times a second: under load that spares a page of the database and an entry of the
broker's log each time. What is stored and not acknowledged yet comes again after a crash, is not
stored again, and is accounted for then.

Each thread beats for itself, so a hang of either shows (see `pulse`).

The store failing (a full disk, a lock, an I/O error) loses nothing: what was taken is held and
tried again, on a fresh connection, for as long as it takes. What the store refuses for itself, and
would for ever, becomes a dead letter instead (`store/salvage.py`).
"""

import asyncio
import contextlib
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import structlog

from appliance.broker.base import Consumer, Delivery
from appliance.config import Config
from appliance.errors import SchemaError, StoreError, StoreFullError, UnstorableError
from appliance.machine.pulse import BEAT_SECONDS, TROUBLE, Pulse
from appliance.model.contents import Content, LedgerReport
from appliance.model.wire import Envelope
from appliance.store.sqlite.salvage import store_each
from appliance.store.sqlite.writer import Writer

#: The loops whose beats make the worker's pulse.
CONSUMING: Final = "consuming"
STORING: Final = "storing"
#: Bytes of envelopes stored in one transaction: it bounds how long the writer is held.
_GROUP_BYTES: Final = 8 * 2**20
#: Envelopes stored and not accounted for yet, seconds for which they may be, and bytes of a
#: transaction that is so large that writing their numbers down with it costs nothing.
_OWED_ENVELOPES: Final = 16
_OWED_SECONDS: Final = 0.05
_OWED_BYTES: Final = 64 * 1024
#: Seconds between attempts to store: doubled from the first to the last.
_BACKOFF_FIRST: Final = 0.1
_BACKOFF_LAST: Final = 5.0
#: Seconds that a stop waits for the transaction under way; the supervisor kills after 8.
_DRAIN: Final = 6.0
#: Beats in a minute, for which the status tells what was stored.
_MINUTE: Final = int(60 / BEAT_SECONDS)

_log: Any = structlog.get_logger(__name__)


class Worker:
    """Runs until SIGTERM or SIGINT; then stores and acknowledges what it has taken."""

    def __init__(self, config: Config, consumer: Consumer, pulse: Pulse) -> None:
        self._config = config
        self._pulse = pulse
        self._stored = 0  # envelopes
        self._trouble = ""
        self._deliveries: queue.SimpleQueue[Delivery | None] = queue.SimpleQueue()
        self._consumer = consumer
        self._stopping = threading.Event()
        self._owed: list[LedgerReport] = []  # one for each envelope stored and not acknowledged
        self._accounted_at = 0.0

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
        await asyncio.wait({storing, consuming, stopped}, return_when=asyncio.FIRST_COMPLETED)
        # Not cancelled: the broker would at once make the next worker the active one, which would
        # store what comes after while this one still commits. What is delivered behind the None
        # is left alone and goes back, in its place, when the connection ends.
        self._pulse.stopping()
        self._stopping.set()
        self._deliveries.put(None)
        done, _ = await asyncio.wait({storing}, timeout=_DRAIN)
        await self._consumer.stop()
        consuming.cancel()
        await asyncio.gather(consuming, return_exceptions=True)
        stopped.cancel()
        living.cancel()
        for task in done:
            task.result()

    async def _live(self) -> None:
        """Beat for the event loop, and say what the worker does."""
        earlier: deque[int] = deque([0], maxlen=_MINUTE)
        while True:
            self._pulse.beat(CONSUMING)
            if self._consumer.consuming:
                self._pulse.ready()
                doing = f"{self._stored - earlier[0]} envelopes stored in the last minute"
            else:
                doing = "waiting for the queue"
            self._pulse.status(self._trouble or doing)
            earlier.append(self._stored)
            await asyncio.sleep(BEAT_SECONDS)

    async def _consume_when_ready(self) -> None:
        """Wait for the schema, then consume: a worker that can't store must not hold messages."""
        writer = await asyncio.to_thread(self._open)
        if writer is not None:
            writer.close()
            await self._consumer.run(self._deliveries.put)

    def _store_all(self, loop: asyncio.AbstractEventLoop) -> None:
        """Store what comes, in the order in which it came, until the None that ends it."""
        writer: Writer | None = None
        acknowledge = self._consumer.acknowledge
        latest: Delivery | None = None
        last = False
        while not last:
            group, last = self._gather()
            account = last or self._is_time_to_account(group)
            if not group and not (account and self._owed):
                continue
            writer = self._store(group, writer, account=account)
            if writer is None:
                break
            latest = group[-1] if group else latest
            if account and latest is not None:
                loop.call_soon_threadsafe(acknowledge, latest)
                latest = None
        if writer is not None:
            writer.close()

    def _is_time_to_account(self, group: list[Delivery]) -> bool:
        """Whether what is owed, and this, is to be accounted for and acknowledged now."""
        return (
            len(self._owed) + len(group) >= _OWED_ENVELOPES
            or time.monotonic() >= self._accounted_at + _OWED_SECONDS
            or sum(len(delivery.content.body) for delivery in group) >= _OWED_BYTES
        )

    def _gather(self) -> tuple[list[Delivery], bool]:
        """Wait for one delivery, and take all that is there with it.

        Nothing where none comes before what is owed is to be accounted for.
        """
        group: list[Delivery] = []
        size = 0
        try:
            delivery = self._next()
        except queue.Empty:
            return group, False
        while True:
            if delivery is None:
                return group, True
            if self._consumer.is_current(delivery):  # else it comes again, perhaps elsewhere
                group.append(delivery)
                size += len(delivery.content.body)
            if size >= _GROUP_BYTES:
                return group, False
            try:
                delivery = self._deliveries.get_nowait()
            except queue.Empty:
                return group, False

    def _next(self) -> Delivery | None:
        """Wait for what comes next, beating meanwhile; with something owed no longer than due.

        Raises queue.Empty then.
        """
        while True:
            self._pulse.beat(STORING)
            if self._owed:
                wait = self._accounted_at + _OWED_SECONDS - time.monotonic()
                return self._deliveries.get(timeout=max(0, wait))
            with contextlib.suppress(queue.Empty):
                return self._deliveries.get(timeout=BEAT_SECONDS)

    def _store(
        self, group: list[Delivery], writer: Writer | None, *, account: bool
    ) -> Writer | None:
        """Store a group, however long it takes; None where the stop came first."""
        contents: list[Content] = [delivery.content for delivery in group]
        owed: list[Content] = [*self._owed, *contents]

        def attempt() -> Writer:
            nonlocal writer
            writer = writer or Writer(self._config.database)
            try:
                missing = writer.store(owed if account else contents, account=account)
            except UnstorableError:
                writer.close()
                writer = None
                # It accounts for each: what came before is owed first.
                missing = store_each(self._config.database, owed)
                writer = Writer(self._config.database)
            except StoreError:
                writer.close()
                writer = None
                raise
            if missing:
                _log.error(
                    "envelopes that were confirmed did not come; see appliance verify",
                    missing=missing,
                )
            return writer

        stored = self._until_it_works(attempt, "can't store, holding what was taken")
        if stored is not None:
            if account:
                self._owed, self._accounted_at = [], time.monotonic()
            else:
                self._owed += [LedgerReport(c.ledger, c.received_at) for c in contents]
            dead = sum(not isinstance(content, Envelope | LedgerReport) for content in contents)
            self._stored += len(group)
            _log.debug("stored", envelopes=len(group), dead=dead)
        return stored

    def _open(self) -> Writer | None:
        return self._until_it_works(
            lambda: Writer(self._config.database), "waiting for the database"
        )

    def _until_it_works(self, attempt: Callable[[], Writer], complaint: str) -> Writer | None:
        """Try again with back-off; complain once, and say when it is over."""
        delay, told, since = _BACKOFF_FIRST, "", time.monotonic()
        while True:
            self._pulse.beat(STORING)
            try:
                result = attempt()
            except StoreError as error:
                self._trouble = f"{complaint}: {error}"
                self._pulse.tell(TROUBLE, _in_words(error))
                kind = type(error).__name__
                if kind != told:
                    level = _log.info if isinstance(error, SchemaError) else _log.error
                    level(complaint, error=str(error))
                    told = kind
            else:
                if self._trouble:
                    self._trouble = ""
                    self._pulse.tell(TROUBLE, "")
                if told:
                    _log.info("works again", after_seconds=round(time.monotonic() - since, 1))
                return result
            if self._stopping.wait(delay):
                return None
            delay = min(delay * 2, _BACKOFF_LAST)


def _in_words(error: StoreError) -> str:
    """Say it without a path."""
    if isinstance(error, StoreFullError):
        return "the store's disk is full"
    if isinstance(error, SchemaError):
        return "the database is not at this program's schema"
    return "the database can't be written"
