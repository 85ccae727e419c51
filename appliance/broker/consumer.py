"""Consumes the queue: deliveries in, acknowledgements out, reconnecting for ever."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import pika.exceptions
import structlog

from appliance.broker import pika_patches, topology
from appliance.broker.base import DEAD, Delivery
from appliance.broker.drain import DrainedDelivery, QueueDrain
from appliance.broker.envelopes import EnvelopeReader, first_exchange, given_up, sent_past_exchange
from appliance.broker.link import Link
from appliance.broker.ping import Ping
from appliance.broker.queue_looks import waiting
from appliance.broker.shard_consuming import ShardConsuming
from appliance.broker.trust import Trust
from appliance.config import Config
from appliance.errors import BrokerError
from appliance.machine.allowance import allowance
from appliance.model.contents import Content, ForeignMessage

#: Seconds until the queue of dead letters is looked for again, after an error.
_RETRY: Final = 1.0

_log: Any = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class AmqpDelivery:
    """One envelope (or the dead letter of one that can't be read), to be acknowledged."""

    #: Number of the connection: a tag means nothing on another one.
    turn: int
    tag: int
    content: Content
    is_drained: ClassVar[bool] = False


class AmqpConsumer:
    """The consumer of a RabbitMQ broker; see `base.Consumer`."""

    def __init__(self, config: Config) -> None:
        pika_patches.read_any_table()
        self._config = config
        # Envelopes delivered and not acknowledged: enough that the next transaction fills while
        # one commits; few, because each can be as large as a request.
        self._prefetch = allowance(config).prefetch
        self._on_delivery: Callable[[Delivery], None]
        self._link = Link(config, self._opened, self._lost)
        self._channel: Any = None
        self._seeking: asyncio.Task[None] | None = None
        self._ping = Ping()
        self._pinging: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._trust = Trust(config)
        most, mapped = config.max_message_bytes, config.map_topics
        self._reader = EnvelopeReader(most, self._trust.is_ours, map_topics=mapped)
        self._dead_reader = EnvelopeReader(
            most, self._trust.is_ours_among_the_dead, map_topics=mapped
        )
        self._turn = 0
        self._shards = ShardConsuming(config)
        #: Tags of the latest delivery, and of the latest that was acknowledged.
        self._delivered = self._acknowledged = 0
        self._queue = ""
        self._drains = [QueueDrain(config, each) for each in config.drain]

    @property
    def drains(self) -> bool:
        """Whether messages of queues of others are among the deliveries."""
        return bool(self._drains)

    @property
    def consuming(self) -> bool:
        """Whether deliveries come, or would come if this were the active consumer."""
        return self._channel is not None

    async def run(self, on_delivery: Callable[[Delivery], None]) -> None:
        """Hand each delivery to `on_delivery`, until `stop`."""
        self._on_delivery = on_delivery
        draining = [asyncio.create_task(each.run(on_delivery)) for each in self._drains]
        try:
            await self._link.run()
        finally:
            for each in draining:
                each.cancel()
            for task in (self._seeking, self._pinging, self._watching):
                if task is not None:
                    task.cancel()

    def is_current(self, delivery: Delivery) -> bool:
        """Whether the delivery's connection is still open, as far as is known. Any thread."""
        if isinstance(delivery, DrainedDelivery):
            return delivery.is_current
        return isinstance(delivery, AmqpDelivery) and delivery.turn == self._turn

    @staticmethod
    def acknowledge_drained(deliveries: Sequence[Delivery]) -> None:
        """Acknowledge those of these that came from queues of others."""
        for each in deliveries:
            if isinstance(each, DrainedDelivery):
                each.note_stored()

    def acknowledge(self, delivery: Delivery) -> None:
        """Acknowledge this delivery and all before it; nothing where its connection is lost."""
        if (
            isinstance(delivery, AmqpDelivery)
            and delivery.turn == self._turn
            and self._channel is not None
            and self._channel.is_open
        ):
            self._channel.basic_ack(delivery.tag, multiple=True)
            self._acknowledged = delivery.tag

    async def stop(self) -> None:
        """Disconnect once the broker has read the acknowledgements."""
        if self._channel is not None and self._channel.is_open:
            # The broker's answer to anything asked after them means that it has read them.
            try:
                await self._link.call(self._channel.queue_declare, queue=self._queue, passive=True)
            except BrokerError as error:
                _log.debug("acknowledgements may be lost", reason=str(error))
        await asyncio.gather(self._link.close(), *(each.stop() for each in self._drains))

    async def _opened(self, link: Link) -> None:
        shards = await self._shards.next(link)
        await topology.wait_until_exists(link, self._config, shards.queues[0])
        channel: Any = link.channel
        channel.add_on_cancel_callback(lambda _: link.drop("the queue is gone"))
        dead = await waiting(link, DEAD) if self._trust.is_unsettled else None
        self._trust.begin(dead or 0)
        self._turn += 1
        self._delivered = self._acknowledged = 0
        turn, self._channel = self._turn, channel

        def delivered(_: Any, method: Any, properties: Any, body: bytes) -> None:
            content = self._reader.read(
                method.routing_key, properties, body, method.redelivered, method.exchange
            )
            if not method.exchange and isinstance(content, ForeignMessage):
                content = sent_past_exchange(content)
            self._delivered = method.delivery_tag
            self._on_delivery(AmqpDelivery(turn, method.delivery_tag, content))

        def died(_: Any, method: Any, properties: Any, body: bytes) -> None:
            content = self._dead_reader.read(
                method.routing_key, properties, body, exchange=first_exchange(properties)
            )
            content = given_up(content, properties)
            self._delivered = method.delivery_tag
            self._on_delivery(AmqpDelivery(turn, method.delivery_tag, content))

        await self._shards.consume(link, shards, self._prefetch, delivered)
        self._queue = shards.queues[0]
        self._watching = asyncio.create_task(
            self._shards.watch(link, shards, lambda: self._delivered == self._acknowledged)
        )
        self._seeking = asyncio.create_task(self._consume_dead(link, turn, died))
        if link.has_others:
            self._pinging = asyncio.create_task(self._ping.run(link))

    async def _consume_dead(self, link: Link, turn: int, died: Callable[..., None]) -> None:
        """Consume the broker's dead letters too, as soon as the API has made their queue.

        The same channel: its tags are in one order, so one acknowledgement still covers all that
        came before.
        """
        while turn == self._turn:
            try:
                await topology.wait_until_exists(link, self._config, DEAD)
                if turn == self._turn:
                    self._channel.basic_consume(DEAD, died)
            except (BrokerError, pika.exceptions.AMQPError) as error:
                _log.debug("dead letter queue not readable", reason=str(error))
                await asyncio.sleep(_RETRY)
            else:
                return

    def _lost(self, _: str) -> None:
        self._turn += 1
        self._channel = None
        for task in (self._pinging, self._watching):
            if task is not None:
                task.cancel()
