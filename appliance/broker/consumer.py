"""Consumes the queue: deliveries in, acknowledgements out, reconnecting for ever."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import pika.exceptions
import structlog

from appliance.broker import pika_patches, topology
from appliance.broker.base import DEAD, QUEUE, Delivery
from appliance.broker.link import Link
from appliance.config import Config
from appliance.errors import BrokerError, EnvelopeError, TopicError
from appliance.model import ledger
from appliance.model.messages import (
    PREFIX_LENGTH,
    REPORT,
    Content,
    DeadEnvelope,
    DeadLetter,
    Envelope,
    IdSource,
    Kind,
    Report,
    check_topic,
    is_id,
    is_time,
    key_prefix,
    now,
)

#: Envelopes delivered and not acknowledged. Enough that the next transaction fills while one
#: commits; few, because each can be as large as a request.
_PREFETCH: Final = 32
#: Seconds until the queue of dead letters is looked for again, after an error.
_RETRY: Final = 1.0

#: RabbitMQ's word for the reason of a death -> the reason in words for people.
_DEATHS: Final = {
    "expired": "its time to live, or that of the queue's policy, was over before it was stored",
    "rejected": "a consumer rejected it",
    "delivery_limit": "it was delivered as often as the limit allows, and never acknowledged",
    "maxlen": "the queue was full",
}

_KINDS: Final = {kind.value: kind for kind in Kind}
_FOREIGN_KEY: Final = re.compile(r"[^\0]{1,255}", re.DOTALL)

_log: Any = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class AmqpDelivery:
    """One envelope (or the dead letter of one that can't be read), to be acknowledged."""

    #: Number of the connection: a tag means nothing on another one.
    turn: int
    tag: int
    content: Content


class AmqpConsumer:
    """The consumer of a RabbitMQ broker; see `base.Consumer`."""

    def __init__(self, config: Config) -> None:
        pika_patches.read_any_table()
        self._config = config
        self._on_delivery: Callable[[Delivery], None]
        self._link = Link(config, self._opened, self._lost)
        self._channel: Any = None
        self._seeking: asyncio.Task[None] | None = None
        self._ids = IdSource()
        self._turn = 0

    @property
    def consuming(self) -> bool:
        """Whether deliveries come, or would come if this were the active consumer."""
        return self._channel is not None

    async def run(self, on_delivery: Callable[[Delivery], None]) -> None:
        """Hand each delivery to `on_delivery`, until `stop`."""
        self._on_delivery = on_delivery
        try:
            await self._link.run()
        finally:
            if self._seeking is not None:
                self._seeking.cancel()

    def is_current(self, delivery: Delivery) -> bool:
        """Whether the delivery's connection is still open, as far as is known. Any thread."""
        return isinstance(delivery, AmqpDelivery) and delivery.turn == self._turn

    def acknowledge(self, delivery: Delivery) -> None:
        """Acknowledge this delivery and all before it; nothing where its connection is lost."""
        if (
            isinstance(delivery, AmqpDelivery)
            and delivery.turn == self._turn
            and self._channel is not None
            and self._channel.is_open
        ):
            self._channel.basic_ack(delivery.tag, multiple=True)

    async def stop(self) -> None:
        """Disconnect once the broker has read the acknowledgements."""
        if self._channel is not None and self._channel.is_open:
            # The broker's answer to anything asked after them means that it has read them.
            try:
                await self._link.call(self._channel.queue_declare, queue=QUEUE, passive=True)
            except BrokerError as error:
                _log.debug("acknowledgements may be lost", reason=str(error))
        await self._link.close()

    async def _opened(self, link: Link) -> None:
        await topology.wait_until_exists(link, self._config, QUEUE)
        channel: Any = link.channel
        channel.add_on_cancel_callback(lambda _: link.drop("the queue is gone"))
        await link.call(channel.basic_qos, prefetch_count=_PREFETCH)
        self._turn += 1
        turn, self._channel = self._turn, channel

        def delivered(_: Any, method: Any, properties: Any, body: bytes) -> None:
            content = self._read(_text(method.routing_key), properties, body)
            self._on_delivery(AmqpDelivery(turn, method.delivery_tag, content))

        def died(_: Any, method: Any, properties: Any, body: bytes) -> None:
            content = given_up(self._read(_text(method.routing_key), properties, body), properties)
            self._on_delivery(AmqpDelivery(turn, method.delivery_tag, content))

        channel.basic_consume(QUEUE, delivered)
        self._seeking = asyncio.create_task(self._consume_dead(link, turn, died))

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

    def _read(self, topic: str, properties: Any, body: bytes) -> Envelope | DeadLetter | Report:
        try:
            kind = _KINDS.get(properties.type or "")
            if kind is None:
                if properties.type == REPORT:
                    return _report(body)
                return self._foreign(topic, properties, body)
            return _ours(topic, kind, properties, body)
        except (EnvelopeError, TopicError) as error:
            reason = error.reason if isinstance(error, EnvelopeError) else "bad-topic"
            name, text = _text(properties.message_id), str(error)
            if kind is None or not is_id(name):
                text = f"{text}; its message_id: {name}" if name else text
                name = self._id(topic, name)
            return DeadLetter(
                topic, name, now(), body, reason, text, _ledger(properties.headers or {})
            )
        except Exception as error:  # noqa: BLE001  # any client can publish anything
            # A delivery that is left out would be acknowledged with the one after it, and lost.
            _log.exception("delivery unreadable")
            return DeadLetter(topic, self._ids.new(), now(), body, "undecodable", repr(error))

    def _foreign(self, topic: str, properties: Any, body: bytes) -> Envelope:
        """Read another AMQP client's message; its `message_id` is its idempotency key."""
        check_topic(topic)
        if len(body) > self._config.max_message_bytes:
            raise EnvelopeError("too-large", f"{len(body)} bytes, over the limit for a message")
        if not body:
            raise EnvelopeError("empty", "a message without a body")
        message_id = self._id(topic, _text(properties.message_id))
        return Envelope(topic, Kind.MESSAGE, message_id, now(), 1, len(body), body)

    def _id(self, topic: str, key: str) -> str:
        """Return the id of another client's message: the same for the same key and topic."""
        if _FOREIGN_KEY.fullmatch(key):
            return key_prefix(topic, key) + "00000000"
        return self._ids.new()


def _ours(topic: str, kind: Kind, properties: Any, body: bytes) -> Envelope:
    headers = properties.headers or {}
    received_at, count, size = (headers.get(n) for n in ("received_at", "count", "bytes"))
    message_id = _text(properties.message_id)
    # An array has more bytes than elements; a sum of false counts could outgrow SQLite's integers.
    most = 1 if kind is Kind.MESSAGE else len(body)
    if not (
        is_id(message_id)
        and isinstance(received_at, str)
        and is_time(received_at)
        and isinstance(count, int)
        and isinstance(size, int)
        and 0 < count <= most
        and 0 < size <= len(body)
        # The last message's id must not need more digits than an id has.
        and (kind is not Kind.LINES or int(message_id[PREFIX_LENGTH:], 16) + count <= 2**32)
    ):
        raise EnvelopeError("undecodable", f"{kind.value}: its properties are not ours")
    check_topic(topic)
    ledger = _ledger(headers)
    return Envelope(topic, kind, message_id, received_at, count, size, body, ledger)


def given_up(content: Content, properties: Any) -> Content:
    """Return content that the broker gave up on as dead letters, with its reason (`x-death`)."""
    word = _death(properties.headers or {})
    reason, error = f"broker-{word.replace('_', '-')}", _DEATHS.get(word, "the broker gave it up")
    if isinstance(content, Envelope):
        return DeadEnvelope(content, reason, error)
    if isinstance(content, DeadLetter):
        return replace(content, error=f"{content.error}; {error}")
    return content


def _death(headers: dict[str, Any]) -> str:
    """Return RabbitMQ's word for the reason of the last death."""
    deaths = headers.get("x-death")
    last = deaths[0] if isinstance(deaths, list) and deaths else None
    word = last.get("reason") if isinstance(last, dict) else None
    return word if isinstance(word, str) and word in _DEATHS else "unknown"


def _report(body: bytes) -> Report:
    entry = ledger.read(body)
    if entry is None or entry.number is not None:
        raise EnvelopeError("undecodable", f"{REPORT}: not a source's last ledger entry")
    return Report(body)


def _ledger(headers: dict[str, Any]) -> str:
    """Return the ledger entry that the envelope carries, as text; the store reads it."""
    ledger = headers.get("ledger")
    return ledger if isinstance(ledger, str) else ""


def _text(value: str | bytes | None) -> str:
    """Return an AMQP short string as text; pika leaves one that is not UTF-8 as bytes."""
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else value or ""
