"""Messages and envelopes: names, ids and the wire format. No I/O.

A message is a body of bytes with a topic and an id. An envelope is what travels as one AMQP
message: 1 to N messages of one topic. There are three kinds of body, told apart by the AMQP
`type`, so that anyone who binds a queue of their own to the exchange can read them:

`appliance.message`
    One message; the body is its bytes as they came.
`appliance.pack`
    Many messages that keep their own ids and times: a JSON array of `[id, received_at, text]`, or
    `[id, received_at, null, base64]` where the bytes are not text.
`appliance.lines`
    A batch of text lines: a JSON array of strings. Line n has the id of the envelope plus n. The
    worker hands such a body to SQLite as it is.

`appliance.report`
    None: the last words of an API process about its numbers (`numbers.py`); in our queue only.

An AMQP message of any other type is one message from someone else; its `message_id`, if it has
one, is its idempotency key.

Ids are UUIDs whose last 32 bits count the messages of one envelope. Fresh ones are version 7
(time-ordered, RFC 9562), which keeps the insertion into the unique index at its right-hand end;
those derived from an idempotency key are version 8.
"""

import base64
import functools
import hashlib
import random
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

import orjson

from appliance.errors import EnvelopeError, TopicError

_TOPIC: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}", re.ASCII)
_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII)
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)

#: Characters of an id that all messages of an envelope share; 8 more count them.
PREFIX_LENGTH: Final = 28
#: Those 8 of the first thousand, which a batch's answer lists.
_FIRST: Final = [f"{n:08x}" for n in range(1000)]
#: The AMQP `type` of a `Report`.
REPORT: Final = "appliance.report"


class Kind(StrEnum):
    """How an envelope's body is written; the value is the AMQP `type`."""

    MESSAGE = "appliance.message"
    PACK = "appliance.pack"
    LINES = "appliance.lines"


@dataclass(frozen=True, slots=True)
class Message:
    """One message: `body` is str where the bytes are UTF-8 without NUL, else bytes."""

    id: str
    received_at: str
    body: str | bytes


@dataclass(frozen=True, slots=True)
class Envelope:
    """One AMQP message: `count` messages of `topic` whose bodies have `size` bytes together.

    `id` and `received_at` are those of the first message. `ledger` is its number and what its
    source says of the ones before it, as `numbers.read` reads it; empty for anyone else's.
    """

    topic: str
    kind: Kind
    id: str
    received_at: str
    count: int
    size: int
    body: bytes
    ledger: str = ""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What can't be stored as a message. `reason` is a stable word, `error` is for people.

    `ledger` is that of the envelope it came in.
    """

    topic: str
    id: str
    received_at: str
    body: bytes
    reason: str
    error: str
    ledger: str = ""


@dataclass(frozen=True, slots=True)
class DeadEnvelope:
    """An envelope of which every message is a dead letter, for a reason that lies in none."""

    envelope: Envelope
    reason: str
    error: str

    @property
    def body(self) -> bytes:
        """The envelope's."""
        return self.envelope.body

    @property
    def ledger(self) -> str:
        """The envelope's."""
        return self.envelope.ledger

    @property
    def received_at(self) -> str:
        """The envelope's."""
        return self.envelope.received_at

    def letters(self) -> list[DeadLetter]:
        """Return a letter for each message, or one for all where they can't be told apart."""
        envelope, reason, error = self.envelope, self.reason, self.error
        try:
            found = [(m.id, m.received_at, as_bytes(m.body)) for m in unpack(envelope)]
        except EnvelopeError as cause:
            found = [(envelope.id, envelope.received_at, envelope.body)]
            reason, error = cause.reason, f"{cause}; {error}"
        return [DeadLetter(envelope.topic, i, at, body, reason, error) for i, at, body in found]


@dataclass(frozen=True, slots=True)
class Report:
    """No message, only what a source says of its numbers: `body` is what `numbers.read` reads.

    A source sends one when it ends; and an envelope that is stored leaves one, where it is to be
    accounted for later. `received_at` is that envelope's.
    """

    body: str | bytes
    received_at: str = ""

    @property
    def ledger(self) -> str | bytes:
        """What an envelope has under this name."""
        return self.body


#: What a delivery holds.
Content = Envelope | DeadLetter | DeadEnvelope | Report


def check_topic(topic: str) -> str:
    """Return `topic`, or raise TopicError."""
    if not _TOPIC.fullmatch(topic):
        raise TopicError(
            "a topic has 1 to 100 of a-z, 0-9, dot, underscore and dash, "
            "and begins with a letter or a digit"
        )
    return topic


def is_id(text: str) -> bool:
    """Whether `text` has the form of a message's id."""
    return _ID.fullmatch(text) is not None


def as_text(body: bytes) -> str | bytes:
    """Return `body` as str where it is UTF-8 without NUL, else as it is.

    SQLite's TEXT may hold NUL, but its shell and functions stop there.
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


def now() -> str:
    """Return the time as the database keeps it: ISO 8601, UTC, milliseconds."""
    return _of_millisecond(time.time_ns() // 1_000_000)


@functools.lru_cache(maxsize=4)
def _of_millisecond(milliseconds: int) -> str:
    """Write a time; many messages come within one millisecond."""
    return timestamp(milliseconds / 1000)


def timestamp(seconds: float) -> str:
    """Write a Unix time in seconds as ISO 8601, UTC, milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


class IdSource:
    """Makes ids whose order is the order of the calls, in one process."""

    def __init__(self) -> None:
        self._random = random.SystemRandom().getrandbits(30)
        self._last = 0  # milliseconds since 1970, 12 bits of count below them

    def prefix(self) -> str:
        """Return the prefix for one envelope's ids: PREFIX_LENGTH characters."""
        self._last = ticks = max(self._last + 1, int(time.time() * 1000) << 12)
        ms, count = ticks >> 12, ticks & 0xFFF
        high, low = self._random >> 16, self._random & 0xFFFF
        return f"{ms >> 16:08x}-{ms & 0xFFFF:04x}-7{count:03x}-{0x8000 | high:04x}-{low:04x}"

    def new(self) -> str:
        """Return the id of a message that travels alone or in a pack."""
        return self.prefix() + "00000000"


def key_prefix(topic: str, key: str) -> str:
    """Return the prefix of the ids that belong to an idempotency key of a topic.

    The same key gives the same ids in every process, so that a retry is the same message to the
    store even when nobody remembers the first attempt.
    """
    digest = hashlib.sha256(f"{topic}\0{key}".encode(errors="surrogateescape")).hexdigest()
    variant = 8 | int(digest[16], 16) & 3
    return (
        f"{digest[:8]}-{digest[8:12]}-8{digest[13:16]}-{variant:x}{digest[17:20]}-{digest[20:24]}"
    )


def ids_from(first: str, count: int) -> list[str]:
    """Return the ids of `count` messages of an envelope whose first is `first`."""
    prefix, start = first[:PREFIX_LENGTH], int(first[PREFIX_LENGTH:], 16)
    if not start and count <= len(_FIRST):
        return [prefix + digits for digits in _FIRST[:count]]
    return [f"{prefix}{n:08x}" for n in range(start, start + count)]


def single(topic: str, message_id: str, received_at: str, body: bytes) -> Envelope:
    """Put one message into an envelope as it came."""
    return Envelope(topic, Kind.MESSAGE, message_id, received_at, 1, len(body), body)


def batch(topic: str, prefix: str, received_at: str, lines: Sequence[bytes]) -> Envelope:
    """Put the lines of one request into an envelope; at least one.

    Lines that are all text become the kind that SQLite splits itself.
    """
    first, together = prefix + "00000000", b"\n".join(lines)
    size, text = len(together) - len(lines) + 1, as_text(together)
    if isinstance(text, str):
        body = _array_of(lines, together, text)
        return Envelope(topic, Kind.LINES, first, received_at, len(lines), size, body)
    ids = ids_from(first, len(lines))
    return pack(topic, [(i, received_at, line) for i, line in zip(ids, lines, strict=True)], size)


def _array_of(lines: Sequence[bytes], together: bytes, text: str) -> bytes:
    """Return text lines as a JSON array; nothing is done in Python for a line.

    Escapes make JSON longer. Where all together is longer by the lines' ends that join it and no
    more, nothing is to be escaped in any line; that is a third of the work.
    """
    if len(orjson.dumps(text)) == len(together) + len(lines) - 1 + len('""'):
        return b'["%b"]' % b'","'.join(lines)
    texts = text.split("\n")
    if len(texts) != len(lines):  # a line's end in a line
        texts = [line.decode() for line in lines]
    return orjson.dumps(texts)


def pack(topic: str, items: Sequence[tuple[str, str, bytes]], size: int) -> Envelope:
    """Put messages, each (id, received_at, body), into one envelope; at least one."""
    rows: list[list[str | None]] = []
    for message_id, received_at, raw in items:
        body = as_text(raw)
        if isinstance(body, str):
            rows.append([message_id, received_at, body])
        else:
            rows.append([message_id, received_at, None, base64.b64encode(body).decode()])
    first_id, first_time, _ = items[0]
    return Envelope(topic, Kind.PACK, first_id, first_time, len(rows), size, orjson.dumps(rows))


def unpack(envelope: Envelope) -> list[Message]:
    """Return an envelope's messages, whatever its kind.

    Raises EnvelopeError (reason `undecodable`) where the body is not what its kind says.
    """
    if envelope.kind is Kind.MESSAGE:
        return [Message(envelope.id, envelope.received_at, as_text(envelope.body))]
    try:
        rows = _array(envelope)
        if envelope.kind is Kind.LINES:
            return list(_lines(envelope, rows))
        return [_row(row) for row in rows]
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
        yield Message(message_id, envelope.received_at, text)


def _row(row: list[str]) -> Message:
    message_id, received_at = row[0], row[1]
    body = row[2] if row[2] is not None else base64.b64decode(row[3], validate=True)
    if not is_id(message_id) or not is_time(received_at) or not isinstance(body, str | bytes):
        raise TypeError("a row that is not [id, time, body]")
    return Message(message_id, received_at, body)


def is_time(text: str) -> bool:
    """Whether `text` is a time as `timestamp` writes it."""
    return _TIME.fullmatch(text) is not None
