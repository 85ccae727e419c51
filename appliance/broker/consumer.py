"""Consume the queue: deliveries in, acknowledgements out, reconnecting for ever."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import structlog

from appliance.broker import tables, topology
from appliance.broker.link import Link
from appliance.config import Config
from appliance.errors import BrokerError, EnvelopeError, TopicError
from appliance.messages import (
    DeadLetter,
    Envelope,
    IdSource,
    Kind,
    check_topic,
    is_id,
    is_time,
    key_prefix,
    now,
)

#: Envelopes taken and not acknowledged. Enough that the next transaction fills while one commits;
#: few, because each may be as large as a request.
_PREFETCH: Final = 32
#: Seconds between two looks for the queue, which the publisher makes: doubled from the first to
#: the last, because the broker logs each that is in vain.
_LOOK_FIRST: Final = 0.25
_LOOK_LAST: Final = 5.0

_KINDS: Final = {kind.value: kind for kind in Kind}
_FOREIGN_KEY: Final = re.compile(r"[^\0]{1,255}", re.DOTALL)

_log: Any = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One envelope (or what is left of one that can't be read), to be acknowledged.

    `turn` counts the connections: a tag means nothing on another one.
    """

    turn: int
    tag: int
    content: Envelope | DeadLetter


class Consumer:
    """Hands each delivery to `on_delivery`, on the running event loop."""

    def __init__(self, config: Config, on_delivery: Callable[[Delivery], None]) -> None:
        tables.read_any()
        self._max_message_bytes = config.max_message_bytes
        self._on_delivery = on_delivery
        self._link = Link(config, self._opened, self._lost)
        self._channel: Any = None
        self._ids = IdSource()
        self.turn = 0

    async def run(self) -> None:
        """Consume until `stop`."""
        await self._link.run()

    def acknowledge(self, delivery: Delivery) -> None:
        """Acknowledge this delivery and all before it; nothing where its connection is gone."""
        if delivery.turn == self.turn and self._channel is not None and self._channel.is_open:
            self._channel.basic_ack(delivery.tag, multiple=True)

    async def stop(self) -> None:
        """Disconnect, after what was acknowledged has been written."""
        if self._channel is not None and self._channel.is_open:
            # The broker's answer to anything asked after them means it has read them.
            try:
                await self._link.call(
                    self._channel.queue_declare, queue=topology.QUEUE, passive=True
                )
            except BrokerError as error:
                _log.debug("acknowledgements may be lost", reason=str(error))
        self._link.stop()

    async def _opened(self, link: Link) -> None:
        delay = _LOOK_FIRST
        while not await topology.exists(link):
            if delay == _LOOK_FIRST:
                _log.info("waiting for the API to make the queue")
            await asyncio.sleep(delay)
            delay = min(delay * 2, _LOOK_LAST)
        channel: Any = link.channel
        channel.add_on_cancel_callback(lambda _: link.drop("the queue is gone"))
        await link.call(channel.basic_qos, prefetch_count=_PREFETCH)
        self.turn += 1
        turn, self._channel = self.turn, channel

        def delivered(_: Any, method: Any, properties: Any, body: bytes) -> None:
            content = self._read(_text(method.routing_key), properties, body)
            self._on_delivery(Delivery(turn, method.delivery_tag, content))

        channel.basic_consume(topology.QUEUE, delivered)

    def _lost(self, _: str) -> None:
        self.turn += 1
        self._channel = None

    def _read(self, topic: str, properties: Any, body: bytes) -> Envelope | DeadLetter:
        kind = _KINDS.get(properties.type or "")
        try:
            if kind is None:
                return self._foreign(topic, properties, body)
            return _ours(topic, kind, properties, body)
        except (EnvelopeError, TopicError) as error:
            reason = error.reason if isinstance(error, EnvelopeError) else "bad-topic"
            message_id = _text(properties.message_id) or self._ids.new()
            return DeadLetter(topic, message_id, now(), body, reason, str(error))

    def _foreign(self, topic: str, properties: Any, body: bytes) -> Envelope:
        """Take what another AMQP client published; its `message_id` is its idempotency key."""
        check_topic(topic)
        if len(body) > self._max_message_bytes:
            raise EnvelopeError("too-large", f"{len(body)} bytes, over the limit for a message")
        if not body:
            raise EnvelopeError("empty", "a message without a body")
        key = _text(properties.message_id)
        if _FOREIGN_KEY.fullmatch(key):
            message_id = key_prefix(topic, key) + "00000000"
        else:
            message_id = self._ids.new()
        return Envelope(topic, Kind.MESSAGE, message_id, now(), 1, len(body), body)


def _ours(topic: str, kind: Kind, properties: Any, body: bytes) -> Envelope:
    headers = properties.headers or {}
    received_at, count, size = (headers.get(n) for n in ("received_at", "count", "bytes"))
    message_id = _text(properties.message_id)
    # An array has more bytes than what is in it; a sum of lies could outgrow SQLite's integers.
    most = 1 if kind is Kind.MESSAGE else len(body)
    if not (
        is_id(message_id)
        and isinstance(received_at, str)
        and is_time(received_at)
        and isinstance(count, int)
        and isinstance(size, int)
        and 0 < count <= most
        and 0 < size <= len(body)
    ):
        raise EnvelopeError("undecodable", f"{kind.value}: its properties are not ours")
    check_topic(topic)
    return Envelope(topic, kind, message_id, received_at, count, size, body)


def _text(value: str | bytes | None) -> str:
    """Return what AMQP calls a short string; pika leaves one that is not UTF-8 as bytes."""
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else value or ""
