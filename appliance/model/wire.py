"""Messages and envelopes, and how an envelope is written on the wire. No I/O.

A message is a body of bytes with a topic and an id. An envelope is one AMQP message: it holds 1 to
N messages, of one topic but for the type `appliance.mixed`. The AMQP `type` says how its body is
written, so that any program that binds a queue of its own to the exchange can read it:

`appliance.message`
    One message: the body is its bytes, unchanged. The AMQP property `content_type` is its media
    type, and the header `meta` its meta; both can be absent.
`appliance.pack`
    Messages that keep their own ids and times: a JSON array of `[id, received_at, text]`, or of
    `[id, received_at, null, base64]` where the bytes are not text, or JSON would blow them up. A
    message that has more goes on (`base64` is null after a text): `content_type`, `meta`,
    `[reason, error]`; each can be null. The last makes it a dead letter: a message that came with
    others and failed a check.
`appliance.lines`
    A batch of text lines: a JSON array of strings. Line n has the id of the envelope plus n. The
    worker hands such a body to the database as it is. The headers `content_type` and `meta` are
    those of every line.
`appliance.mixed`
    Messages of several topics, in the order in which they came: a JSON array of a pack's rows, each
    with its topic in front. The routing key is the topic of the first; the header `CC` names the
    others, by which RabbitMQ routes too, so that every queue bound to any of them gets the envelope
    once. Whoever binds by topic leaves the other rows alone.

An envelope of any type but the last can be a delayed one: the header `due_at` says when its
messages become rows. Whoever binds a queue to the exchange gets it at once. One with the header
`expires_at` holds messages that all end, the last one at that time; the meta of each says when.

Three more types are no envelopes. `appliance.report` is a ledger report (`contents.LedgerReport`),
`appliance.deletion` a deletion's mark (`contents.DeletionMark`), both in our own queue only. An
AMQP message of any other type is one message of another program; its `message_id`, if it has one,
is its idempotency key.
"""

import base64
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple

import orjson

from appliance.errors import EnvelopeError, TopicError
from appliance.model import meta as metas
from appliance.model.ids import ids_from, is_id
from appliance.model.timestamps import is_time
from appliance.model.topics import check_topic

#: Elements of a row that says nothing beyond its message's body: id, time, text, base64.
_PLAIN_ROW: Final = 4
#: Bytes of bodies from which on it is looked whether JSON would blow them up: each control
#: character becomes six. An envelope must stay below the broker's limit for a message (128 MiB).
_LOOKED_AT_BYTES: Final = 16 * 2**20
_BLOWN_UP_BYTES: Final = 80 * 2**20
_CONTROL: Final = bytes(range(32))


class Kind(StrEnum):
    """The way in which an envelope's body is written; the value is the AMQP `type`."""

    MESSAGE = "appliance.message"
    PACK = "appliance.pack"
    LINES = "appliance.lines"
    MIXED = "appliance.mixed"


class Message(NamedTuple):
    """One message: `body` is str where it is known to be UTF-8 without NUL, else bytes.

    `content_type` is the media type that its sender named, `meta` is JSON text (see `model.meta`);
    None: there is none. `dead` is the (reason, error) of a message that becomes a dead letter.
    """

    id: str
    received_at: str
    body: str | bytes
    content_type: str | None = None
    meta: str | None = None
    dead: tuple[str, str] | None = None


#: A message, and before it the topic that it goes to.
Addressed = tuple[str, Message]


@dataclass(frozen=True, slots=True)
class Envelope:
    """One AMQP message: `count` messages whose bodies have `size` bytes together.

    `topic`, `id` and `received_at` are those of the first message; `further_topics` are the topics
    of others, and none in all kinds but one. `ledger` is the text of its ledger entry;
    empty where another program published it. `content_type` and `meta` are those of each message;
    in a pack, of each one whose row says nothing of its own. `due_at` is when the messages become
    rows; None: as soon as they come. `expires_at` is when the last of them ends, as the meta of
    each says for itself; None: never.
    """

    topic: str
    kind: Kind
    id: str
    received_at: str
    count: int
    size: int
    body: bytes
    ledger: str = ""
    content_type: str | None = None
    meta: str | None = None
    further_topics: tuple[str, ...] = ()
    due_at: str | None = None
    expires_at: str | None = None


def as_text(body: bytes) -> str | bytes:
    """Return `body` as str where it is UTF-8 without NUL, else unchanged.

    Databases keep text with a NUL badly: SQLite's shell and functions stop there.
    """
    if b"\0" in body:
        return body
    try:
        return body.decode()
    except UnicodeDecodeError:
        return body


def as_bytes(body: str | bytes) -> bytes:
    """Undo `as_text`."""
    return body.encode() if isinstance(body, str) else body


def single(
    topic: str,
    message_id: str,
    received_at: str,
    body: bytes,
    content_type: str | None = None,
    meta: str | None = None,
) -> Envelope:
    """Put one message into an envelope, its bytes unchanged."""
    return Envelope(
        topic, Kind.MESSAGE, message_id, received_at, 1, len(body), body, "", content_type, meta
    )


def batch(
    topic: str,
    prefix: str,
    received_at: str,
    lines: Sequence[bytes],
    content_type: str | None = None,
    meta: str | None = None,
) -> Envelope:
    """Put the lines of one request into an envelope; at least one.

    Lines that are all text become the kind that the database splits itself.
    """
    first, together = prefix + "00000000", b"\n".join(lines)
    size, text = len(together) - len(lines) + 1, as_text(together)
    if isinstance(text, str) and not _blows_up(size, [together]):
        body = _array_of(lines, together, text)
        return Envelope(
            topic, Kind.LINES, first, received_at, len(lines), size, body, "", content_type, meta
        )
    ids = ids_from(first, len(lines))
    messages = [Message(i, received_at, x) for i, x in zip(ids, lines, strict=True)]
    return pack(topic, messages, size, content_type, meta)


def _array_of(lines: Sequence[bytes], together: bytes, text: str) -> bytes:
    """Return text lines as a JSON array; Python does nothing for a single line.

    Escapes make JSON longer. Where the JSON of all lines is longer only by the joining line ends,
    no line needs an escape; that is a third of the work.
    """
    if len(orjson.dumps(text)) == len(together) + len(lines) - 1 + len('""'):
        return b'["%b"]' % b'","'.join(lines)
    texts = text.split("\n")
    if len(texts) != len(lines):  # a line's end in a line
        texts = [line.decode() for line in lines]
    return orjson.dumps(texts)


def pack(
    topic: str,
    messages: Sequence[Message],
    size: int,
    content_type: str | None = None,
    meta: str | None = None,
) -> Envelope:
    """Put messages, at least one, into one envelope; `size` is that of their bodies in bytes.

    `content_type` and `meta` are those of each message that has none of its own: written once, so
    that many messages of one request cost their own bytes only.
    """
    is_coded = _blows_up(size, (as_bytes(message.body) for message in messages))
    rows = [_packed(message, is_coded) for message in messages]
    first = messages[0]
    return Envelope(
        topic, Kind.PACK, first.id, first.received_at, len(rows), size, orjson.dumps(rows), "",
        content_type, meta,
    )  # fmt: skip


def mixed(messages: Sequence[Addressed], size: int) -> Envelope:
    """Put messages of several topics, at least one, into one envelope, in their order.

    `size` is that of their bodies in bytes.
    """
    is_coded = _blows_up(size, (as_bytes(message.body) for _, message in messages))
    rows = [[topic, *_packed(message, is_coded)] for topic, message in messages]
    topic, first = messages[0]
    further = dict.fromkeys(topic for topic, _ in messages)
    del further[topic]
    return Envelope(
        topic, Kind.MIXED, first.id, first.received_at, len(rows), size, orjson.dumps(rows),
        further_topics=tuple(further),
    )  # fmt: skip


def _blows_up(size: int, bodies: Iterable[bytes]) -> bool:
    if size < _LOOKED_AT_BYTES:
        return False
    controls = sum(len(body) - len(body.translate(None, _CONTROL)) for body in bodies)
    return size + 5 * controls > _BLOWN_UP_BYTES


def _packed(message: Message, is_coded: bool) -> list[Any]:
    message_id, received_at, body, content_type, meta, dead = message
    if is_coded:
        body = as_bytes(body)
    elif isinstance(body, bytes):
        body = as_text(body)
    row: list[Any] = (
        [message_id, received_at, body]
        if isinstance(body, str)
        else [message_id, received_at, None, base64.b64encode(body).decode()]
    )
    if content_type is not None or meta is not None or dead is not None:
        if isinstance(body, str):
            row.append(None)
        row += (content_type, meta) if dead is None else (content_type, meta, dead)
    return row


def addressed(envelope: Envelope) -> list[Addressed]:
    """Return an envelope's messages, whatever its kind, each with its topic.

    Raises EnvelopeError (reason `undecodable`) where the body is not what its kind says.
    """
    if envelope.kind is not Kind.MIXED:
        topic = envelope.topic
        return [(topic, message) for message in unpack(envelope)]
    try:
        return list(_addressed(envelope, _array(envelope)))
    except (ValueError, TypeError, LookupError, TopicError) as error:
        raise EnvelopeError("undecodable", f"{envelope.kind}: {error}") from error


def _addressed(envelope: Envelope, rows: list[Any]) -> Iterator[Addressed]:
    known = {envelope.topic}
    for row in rows:
        topic = row[0]
        if topic not in known:
            known.add(check_topic(topic))
        yield topic, _row(row[1:], envelope)


def unpack(envelope: Envelope) -> list[Message]:
    """Return an envelope's messages, whatever its kind; `addressed` tells their topics too.

    Raises EnvelopeError (reason `undecodable`) where the body is not what its kind says.
    """
    if envelope.kind is Kind.MIXED:
        return [message for _, message in addressed(envelope)]
    if envelope.kind is Kind.MESSAGE:
        body = as_text(envelope.body)
        return [
            Message(envelope.id, envelope.received_at, body, envelope.content_type, envelope.meta)
        ]
    try:
        rows = _array(envelope)
        if envelope.kind is Kind.LINES:
            return list(_lines(envelope, rows))
        return [_row(row, envelope) for row in rows]
    except (ValueError, TypeError, LookupError) as error:
        raise EnvelopeError("undecodable", f"{envelope.kind}: {error}") from error


def _array(envelope: Envelope) -> list[Any]:
    rows = orjson.loads(envelope.body)
    if not isinstance(rows, list) or len(rows) != envelope.count:
        raise TypeError(f"not an array of {envelope.count}")
    return rows


def _lines(envelope: Envelope, rows: list[str]) -> Iterable[Message]:
    for message_id, text in zip(ids_from(envelope.id, len(rows)), rows, strict=True):
        if not isinstance(text, str):
            raise TypeError("a line that is not a string")
        yield Message(message_id, envelope.received_at, text, envelope.content_type, envelope.meta)


def _row(row: list[Any], envelope: Envelope) -> Message:
    message_id, received_at = row[0], row[1]
    body = row[2] if row[2] is not None else as_text(base64.b64decode(row[3], validate=True))
    if not is_id(message_id) or not is_time(received_at) or not isinstance(body, str | bytes):
        raise TypeError("a row that is not [id, time, body]")
    if len(row) <= _PLAIN_ROW:
        return Message(message_id, received_at, body, envelope.content_type, envelope.meta)
    content_type, meta, *dead = row[_PLAIN_ROW:]
    if (
        not (content_type is None or isinstance(content_type, str))
        or not (meta is None or metas.is_sound(meta))
        or len(dead) > 1
    ):
        raise TypeError("a row whose content type or meta is none")
    if not dead or dead[0] is None:
        return Message(message_id, received_at, body, content_type, meta)
    reason, error = dead[0]
    if not (isinstance(dead[0], list) and isinstance(reason, str) and isinstance(error, str)):
        raise TypeError("a row whose reason of death is none")
    return Message(message_id, received_at, body, content_type, meta, (reason, error))
