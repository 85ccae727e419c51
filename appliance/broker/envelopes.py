"""Reads envelopes from AMQP messages: ours, and those that any other AMQP client published."""

import contextlib
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, NoReturn

import structlog

from appliance.broker import foreign
from appliance.errors import EnvelopeError, TopicError
from appliance.model import ledger
from appliance.model.contents import (
    MARK,
    REPORT,
    Content,
    DeadEnvelope,
    DeadLetter,
    DelayedEnvelope,
    DeletionMark,
    ForeignMessage,
    LedgerReport,
)
from appliance.model.ids import PREFIX_LENGTH, IdSource, is_id, key_prefix
from appliance.model.meta import content_type, extended, is_sound
from appliance.model.timestamps import is_time, now
from appliance.model.topics import check_topic, map_topic
from appliance.model.wire import Envelope, Kind

#: RabbitMQ's word for the reason of a death -> the reason in words for people.
_DEATHS: Final = {
    "expired": "its time to live, or that of the queue's policy, was over before it was stored",
    "rejected": "a consumer rejected it",
    "delivery_limit": "it was delivered as often as the limit allows, and never acknowledged",
    "maxlen": "the queue was full",
}

_KINDS: Final = {kind.value: kind for kind in Kind}
#: AMQP types that only our own programs may publish.
_OUR_TYPES: Final = frozenset({*_KINDS, REPORT, MARK})
_FOREIGN_KEY: Final = re.compile(r"[^\0]{1,255}", re.DOTALL)

_log: Any = structlog.get_logger(__name__)


class EnvelopeReader:
    """Reads AMQP messages; `max_message_bytes` bounds those of other clients.

    `is_ours` says whether a message of one of our types was published by us. With `map_topics`, the
    routing keys of other clients are mapped to names of topics.
    """

    def __init__(
        self,
        max_message_bytes: int,
        is_ours: Callable[[Any], bool],
        *,
        map_topics: bool = False,
    ) -> None:
        self._max_message_bytes = max_message_bytes
        self._is_ours = is_ours
        self._map_topics = map_topics
        self._ids = IdSource()

    def read(
        self,
        routing_key: str | bytes,
        properties: Any,
        body: bytes,
        redelivered: bool = False,
        exchange: str = "",
    ) -> Content:
        """Return the envelope; a ledger report; a mark; or a dead letter where it is none.

        `exchange` is the one that it was published to.
        """
        topic, is_ours = _text(routing_key), False
        try:
            if properties.type not in _OUR_TYPES:
                return self._foreign(topic, properties, body, redelivered, exchange)
            is_ours = self._is_ours(properties)
            return _content(topic, properties, body, is_ours=is_ours)
        except (EnvelopeError, TopicError) as error:
            reason = error.reason if isinstance(error, EnvelopeError) else "bad-topic"
            name, text = _text(properties.message_id), str(error)
            if not is_ours or properties.type not in _KINDS or not is_id(name):
                text = f"{text}; its message_id: {name}" if name else text
                name = self._id(topic, name)
            entry = _ledger(properties.headers or {}) if is_ours else ""
            return DeadLetter(
                topic, name, now(), body, reason, text, entry,
                content_type(_text(properties.content_type)),
                foreign.meta(properties, mqtt=foreign.is_mqtt(exchange, properties)),
            )  # fmt: skip
        except Exception as error:  # noqa: BLE001  # any client can publish anything
            # A delivery that is left out would be acknowledged with the one after it, and lost.
            _log.exception("delivery unreadable")
            return DeadLetter(topic, self._ids.new(), now(), body, "undecodable", repr(error))

    def read_drained(
        self,
        topic: str,
        message_id: str,
        properties: Any,
        body: bytes,
        origin: tuple[str, str | bytes, str | bytes],
        *,
        redelivered: bool,
    ) -> ForeignMessage | DeadLetter:
        """Return a message of another's queue, or the dead letter where it can't be kept.

        It has the id `message_id`, unless it names one of its own. `origin` is the queue, and the
        exchange and the routing key by which it came there.
        """
        meta = foreign.meta(properties)
        queue, exchange, key = map(_text, origin)
        with contextlib.suppress(ValueError):  # its properties fill it
            named = {"exchange": exchange or None, "routing_key": None if key == queue else key}
            meta = extended(meta, {"queue": queue} | named)
        own = _text(properties.message_id)
        if _FOREIGN_KEY.fullmatch(own):
            message_id = key_prefix(topic, own) + "00000000"
        media_type, moment = content_type(_text(properties.content_type)), now()
        reason = error = ""
        if properties.type in _OUR_TYPES:
            reason = "foreign-envelope"
            error = f"{properties.type} is only for the appliance's own programs"
        elif len(body) > self._max_message_bytes:
            reason, error = "too-large", f"{len(body)} bytes, over the limit for a message"
        elif not body:
            reason, error = "empty", "a message without a body"
        if reason:
            return DeadLetter(
                topic, message_id, moment, body, reason, error, "", media_type, meta
            )  # fmt: skip
        return ForeignMessage(
            topic, Kind.MESSAGE, message_id, moment, 1, len(body), body, "", media_type, meta,
            redelivered=redelivered,
        )  # fmt: skip

    def _foreign(
        self, topic: str, properties: Any, body: bytes, redelivered: bool, exchange: str
    ) -> Content:
        """Read another client's message, by AMQP or MQTT."""
        mqtt = foreign.is_mqtt(exchange, properties)
        if mqtt and not body:
            # How MQTT deletes a retained message. Home Assistant's devices send thousands.
            return LedgerReport("")  # it says nothing: there is nothing to keep
        meta = foreign.meta(properties, mqtt=mqtt)
        if self._map_topics:
            named, topic = topic, map_topic(topic)
            if named != topic:
                meta = extended(meta, {"topic": named})
        check_topic(topic)
        if len(body) > self._max_message_bytes:
            raise EnvelopeError("too-large", f"{len(body)} bytes, over the limit for a message")
        if not body:
            raise EnvelopeError("empty", "a message without a body")
        message_id = self._id(topic, _text(foreign.key(properties, mqtt=mqtt)))
        return ForeignMessage(
            topic, Kind.MESSAGE, message_id, now(), 1, len(body), body, "",
            content_type(_text(properties.content_type)), meta, redelivered=redelivered,
        )  # fmt: skip

    def _id(self, topic: str, key: str) -> str:
        """Return the id of another client's message: the same for the same key and topic."""
        if _FOREIGN_KEY.fullmatch(key):
            return key_prefix(topic, key) + "00000000"
        return self._ids.new()


def _content(topic: str, properties: Any, body: bytes, *, is_ours: bool) -> Content:
    """Read a message of one of our types. Raises EnvelopeError where it is not ours.

    One that can't be read dies for the same reason whoever sent it, so that it is one letter if it
    comes again after another judgement of whose it is.
    """
    content: Content
    if properties.type == REPORT:
        content = _report(body)
    elif properties.type == MARK:
        content = _mark(body)
    else:
        envelope = _ours(topic, _KINDS[properties.type], properties, body)
        content = envelope if envelope.due_at is None else DelayedEnvelope(envelope)
    if not is_ours:
        _refuse(properties)
    return content


def _refuse(properties: Any) -> NoReturn:
    """Refuse a message of one of our types that is not ours. Raises EnvelopeError.

    It is no plain message either: of a batch, nobody would see that its rows are missing.
    """
    user = _text(properties.user_id)
    who = f"the user {user} published it" if user else "it names no user"
    if "x-death" in (properties.headers or {}):
        who += ", and another queue sent it here"
    raise EnvelopeError(
        "foreign-envelope", f"{properties.type} is only for the appliance's own programs, and {who}"
    )


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
    media_type = (
        properties.content_type if kind is Kind.MESSAGE else headers.get("content_type")
    ) or None
    meta = headers.get("meta")
    if media_type is not None and (
        not isinstance(media_type, str) or content_type(media_type) != media_type
    ):
        raise EnvelopeError("undecodable", f"{kind.value}: its content type is none")
    if meta is not None and not is_sound(meta):
        raise EnvelopeError("undecodable", f"{kind.value}: its meta is no JSON object, or too long")
    due_at = headers.get("due_at")
    if due_at is not None and not (isinstance(due_at, str) and is_time(due_at)):
        raise EnvelopeError("undecodable", f"{kind.value}: the time when it is due is none")
    expires_at = headers.get("expires_at")
    if expires_at is not None and not (isinstance(expires_at, str) and is_time(expires_at)):
        raise EnvelopeError("undecodable", f"{kind.value}: the time when it is over is none")
    return Envelope(
        topic, kind, message_id, received_at, count, size, body, _ledger(headers), media_type, meta,
        due_at=due_at, expires_at=expires_at,
    )  # fmt: skip


def sent_past_exchange(message: ForeignMessage) -> DeadEnvelope:
    """Return the dead letter of a message that its client sent straight to our own queue."""
    return DeadEnvelope(
        message,
        "foreign-envelope",
        "it was sent to the appliance's own queue; publish to the exchange appliance instead",
    )


def first_exchange(properties: Any) -> str:
    """Return the exchange to which a message was published that the broker has given up on."""
    name = (properties.headers or {}).get("x-first-death-exchange")
    return name if isinstance(name, str) else ""


def given_up(content: Content, properties: Any) -> Content:
    """Return content that the broker gave up on as dead letters, with its reason (`x-death`)."""
    word = _death(properties.headers or {})
    reason, error = f"broker-{word.replace('_', '-')}", _DEATHS.get(word, "the broker gave it up")
    if isinstance(content, DelayedEnvelope):
        return DeadEnvelope(content.envelope, reason, error)
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


def _report(body: bytes) -> LedgerReport:
    entry = ledger.read(body)
    if entry is None or entry.number is not None:
        raise EnvelopeError("undecodable", f"{REPORT}: not a source's last ledger entry")
    return LedgerReport(body)


def _mark(body: bytes) -> DeletionMark:
    name = body.decode("ascii", "replace")
    if not is_id(name):
        raise EnvelopeError("undecodable", f"{MARK}: not a deletion's id")
    return DeletionMark(name)


def _ledger(headers: dict[str, Any]) -> str:
    """Return the ledger entry that the envelope carries, as text; the store reads it."""
    ledger = headers.get("ledger")
    return ledger if isinstance(ledger, str) else ""


def _text(value: str | bytes | None) -> str:
    """Return an AMQP short string as text; pika leaves one that is not UTF-8 as bytes."""
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else value or ""
