"""Drains a queue that others made: its messages are numbered, stored, and then acknowledged.

A plain message has no id by which a second delivery could be told from a second message. So it is
numbered by its place in the queue. What is delivered and not acknowledged goes back to its place
when its reader ends, and comes first, in the same order, to the next one. If that one goes on
counting from the number of acknowledged messages, each message gets the number that it had before.
Its id is made of the number, and the store takes no id twice.

How many are acknowledged is known by the one who acknowledges, the broker. A queue of our own,
named after the one that is drained, holds one message, the baton, with that count. Messages are
acknowledged and the baton is replaced in one AMQP transaction: the channel's process in the broker
gets one order, and a client that dies can't divide it. Whoever has the baton drains; nobody else
gets it before the broker has seen the end of that connection.

The baton is in memory only. When the broker ends, it is gone, and the next one counts under a new
name: what the broker then delivers again is stored again, and never taken for what it is not. A new
name also begins with the first message of a connection that was never delivered before: none that
may be stored already comes after it. So a queue that was deleted and made anew is no danger.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple

import pika
import pika.exceptions
import structlog

from appliance.broker import queue_looks
from appliance.broker.base import DRAINS, Delivery
from appliance.broker.envelopes import EnvelopeReader
from appliance.broker.link import Link
from appliance.config import Config
from appliance.errors import BrokerError
from appliance.machine.allowance import allowance
from appliance.machine.complaint import Complaint
from appliance.model.contents import Content
from appliance.model.drains import DrainedQueue
from appliance.model.ids import IdSource

#: Seconds between two looks for a queue, doubled from the first to the last (the broker logs each
#: look that finds none), and for the end of whoever reads it now.
_LOOK_FIRST: Final = 0.5
_LOOK_LAST: Final = 10.0
_READER_LOOK: Final = 1.0
#: Seconds for a baton that the broker has to come.
_BATON_SECONDS: Final = 5.0
#: Milliseconds after which the queue of a baton goes, where nobody drains any more.
_EXPIRES: Final = 7 * 86_400_000
#: Numbers of one name: an id has 32 bits for them.
_MOST_NUMBERS: Final = 2**32 - 2**16

_log: Any = structlog.get_logger(__name__)


class Baton(NamedTuple):
    """How many messages were acknowledged under a name, which is the prefix of their ids."""

    name: str
    done: int


class _Arrival(NamedTuple):
    tag: int
    is_redelivered: bool
    exchange: str | bytes
    routing_key: str | bytes
    properties: Any
    body: bytes


@dataclass(frozen=True, slots=True)
class DrainedDelivery:
    """A message of a drained queue, for the worker; `drain` acknowledges it."""

    drain: "QueueDrain"
    turn: int
    tag: int
    content: Content
    is_drained: ClassVar[bool] = True

    @property
    def is_current(self) -> bool:
        """Whether its connection is still open, as far as is known."""
        return self.drain.is_current(self.turn)

    def note_stored(self) -> None:
        """Acknowledge it, and all before it, soon."""
        self.drain.note_stored(self.turn, self.tag)


class QueueDrain:
    """Drains one queue on a connection of its own; on the event loop."""

    def __init__(self, config: Config, drained: DrainedQueue) -> None:
        self._queue, self._topic = drained
        self._baton_queue = DRAINS + self._queue
        self._prefetch = allowance(config).prefetch
        self._reader = EnvelopeReader(config.max_message_bytes, lambda _: False)
        self._names = IdSource()
        self._on_delivery: Callable[[Delivery], None]
        self._link = Link(config, self._opened, self._lost, quiet=True)
        self._draining: asyncio.Task[None] | None = None
        self._turn = 0
        # Of the connection that is open:
        self._arrivals: deque[_Arrival] = deque()
        self._has_arrived = asyncio.Event()
        self._has_rejected = False
        self._batons: asyncio.Queue[tuple[Baton, int]] = asyncio.Queue()
        self._stored = asyncio.Event()
        self._awaited_tag = 0
        self._trouble = Complaint(_log, "drained queue not readable", "drained queue readable")

    async def run(self, on_delivery: Callable[[Delivery], None]) -> None:
        """Hand each message to `on_delivery`, until `stop`."""
        self._on_delivery = on_delivery
        try:
            await self._link.run()
        finally:
            self._end_turn()

    async def stop(self) -> None:
        """Disconnect."""
        await self._link.close()

    def is_current(self, turn: int) -> bool:
        """Whether the connection of that turn is still open, as far as is known. Any thread."""
        return turn == self._turn

    def note_stored(self, turn: int, tag: int) -> None:
        """Take note that a message, and all before it, is stored."""
        if turn == self._turn and tag == self._awaited_tag:
            self._stored.set()

    # --- one connection --------------------------------------------------------------------------

    async def _opened(self, link: Link) -> None:
        self._arrivals, self._batons = deque(), asyncio.Queue()
        self._has_arrived.clear()
        self._has_rejected = False
        self._draining = asyncio.create_task(self._drain(link))

    def _lost(self, reason: str) -> None:
        if self._draining is not None and reason != "stopped":
            self._trouble.fails(kind="lost", queue=self._queue, reason=reason)
        self._end_turn()

    def _end_turn(self) -> None:
        self._turn += 1
        if self._draining is not None:
            self._draining.cancel()
            self._draining = None

    async def _drain(self, link: Link) -> None:
        try:
            await self._drain_all(link, link.channel)
        except (BrokerError, pika.exceptions.AMQPError) as error:
            link.drop(str(error))
        except Exception as error:  # noqa: BLE001  # a fault of ours must not end the drain for good
            _log.exception("drain failed", queue=self._queue)
            link.drop(repr(error))

    async def _drain_all(self, link: Link, channel: Any) -> None:
        await link.call(channel.tx_select)
        channel.add_on_cancel_callback(lambda _: link.drop("the queue is gone"))
        baton, tag = await self._take_baton(link, channel)
        await self._wait_until_there(link)
        await self._wait_until_free(link, self._queue, says=True)
        # Messages that are delivered and not stored: few, because each can be as large as any.
        await link.call(channel.basic_qos, prefetch_count=self._prefetch)
        await self._consume(link, channel, self._queue, self._arrived)
        self._trouble.works(queue=self._queue)
        _log.info("draining", queue=self._queue, topic=self._topic)
        is_fresh = False
        while True:
            batch = await self._next_batch(link, channel, only_redelivered=not is_fresh)
            if baton.done > _MOST_NUMBERS or not (is_fresh or batch[0].is_redelivered):
                is_fresh = True
                fresh = Baton(self._names.prefix(), 0)
                baton, tag = await self._pass_on(link, channel, fresh, [tag])
            await self._store(baton, batch)
            last = batch[-1].tag
            passed = Baton(baton.name, baton.done + len(batch))
            late = [tag] if tag > last else []
            baton, tag = await self._pass_on(link, channel, passed, late, up_to=last)

    async def _wait_until_there(self, link: Link) -> None:
        delay = _LOOK_FIRST
        while await queue_looks.look(link, self._queue) is None:
            self._trouble.fails(
                kind="missing", queue=self._queue, reason="it is not there, or for its maker only"
            )
            await link.pause(delay)
            delay = min(2 * delay, _LOOK_LAST)

    async def _wait_until_free(self, link: Link, queue: str, *, says: bool) -> int:
        """Return when nobody reads the queue: how many messages wait there.

        What its reader had, and did not acknowledge, is back by then. Raises BrokerError.
        """
        while True:
            found = await queue_looks.look(link, queue)
            if found is None:
                raise BrokerError(f"broker: {queue} is gone")
            if not found.consumers:
                return found.waiting
            if says:
                self._trouble.fails(kind="taken", queue=queue, reason="another program reads it")
            await link.pause(_READER_LOOK)

    async def _take_baton(self, link: Link, channel: Any) -> tuple[Baton, int]:
        """Return the baton, and its tag, once nobody else has it; a new one if there is not one."""
        queue, expires = self._baton_queue, {"x-expires": _EXPIRES}
        await link.call(channel.queue_declare, queue=queue, arguments=expires)
        count = await self._wait_until_free(link, queue, says=False)
        await self._consume(link, channel, queue, self._baton_arrived)
        found: list[tuple[Baton, int]] = []
        with contextlib.suppress(TimeoutError):  # not each message need be a baton
            while len(found) < count:
                found.append(await asyncio.wait_for(self._batons.get(), _BATON_SECONDS))
        if len(found) == 1:
            return found[0]
        tags = [tag for _, tag in found]
        return await self._pass_on(link, channel, Baton(self._names.prefix(), 0), tags)

    @staticmethod
    async def _consume(link: Link, channel: Any, queue: str, arrived: Callable[..., None]) -> None:
        await link.call(
            channel.basic_consume, queue=queue, on_message_callback=arrived, exclusive=True
        )

    def _arrived(self, _: Any, method: Any, properties: Any, body: bytes) -> None:
        self._arrivals.append(
            _Arrival(
                method.delivery_tag, method.redelivered, method.exchange, method.routing_key,
                properties, body,
            )
        )  # fmt: skip
        self._has_arrived.set()

    def _baton_arrived(self, channel: Any, method: Any, properties: Any, _: bytes) -> None:
        baton = self._read_baton(properties)
        if baton is not None:
            self._batons.put_nowait((baton, method.delivery_tag))
            return
        # Who may write to a queue of the default exchange may write to any.
        channel.basic_reject(method.delivery_tag, requeue=False)
        self._has_rejected = True
        self._has_arrived.set()

    def _read_baton(self, properties: Any) -> Baton | None:
        signed = self._link.signs_as
        if signed is not None and properties.user_id != signed:
            return None
        headers = properties.headers or {}
        name, done = headers.get("name"), headers.get("done")
        if not isinstance(name, str) or not isinstance(done, int):
            return None
        return Baton(name, done)

    async def _next_batch(
        self, link: Link, channel: Any, *, only_redelivered: bool
    ) -> list[_Arrival]:
        """Wait for a message; return it with those that have come after it.

        With `only_redelivered`, none that is new is in one batch with one that is not.
        """
        while not self._arrivals:
            self._has_arrived.clear()
            if self._has_rejected:
                self._has_rejected = False
                await link.call(channel.tx_commit)
            await self._has_arrived.wait()
        batch = [self._arrivals.popleft()]
        is_bounded = only_redelivered and batch[0].is_redelivered
        while self._arrivals and not (is_bounded and not self._arrivals[0].is_redelivered):
            batch.append(self._arrivals.popleft())
        return batch

    async def _store(self, baton: Baton, batch: Sequence[_Arrival]) -> None:
        """Hand a batch to the worker; return when all of it is stored, however long that takes."""
        self._stored.clear()
        self._awaited_tag = batch[-1].tag
        for number, each in enumerate(batch, baton.done):
            content = self._reader.read_drained(
                self._topic,
                f"{baton.name}{number:08x}",
                each.properties,
                each.body,
                (self._queue, each.exchange, each.routing_key),
                redelivered=each.is_redelivered,
            )
            self._on_delivery(DrainedDelivery(self, self._turn, each.tag, content))
        await self._stored.wait()

    async def _pass_on(
        self, link: Link, channel: Any, baton: Baton, tags: Sequence[int], *, up_to: int = 0
    ) -> tuple[Baton, int]:
        """Put a baton in the place of the one in hand, and acknowledge; all or nothing.

        `up_to` acknowledges all that came until then, `tags` what else. Returns the new baton, and
        its tag, when it has come back: so the broker has done all of it.
        """
        properties = pika.BasicProperties(user_id=link.signs_as, headers=baton._asdict())
        channel.basic_publish("", self._baton_queue, b"", properties)
        if up_to:
            channel.basic_ack(up_to, multiple=True)
        for tag in tags:
            channel.basic_ack(tag)
        await link.call(channel.tx_commit)
        coming = asyncio.ensure_future(self._batons.get())
        try:
            came, tag = await link.wait(coming)
        finally:
            coming.cancel()
        if came != baton:
            raise BrokerError(f"broker: there is another baton in {self._baton_queue}")
        return baton, tag
