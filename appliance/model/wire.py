"""Messages and envelopes, and how an envelope is written on the wire. No I/O.

A message is a body of bytes with a topic and an id. An envelope is one AMQP message: it holds 1 to
N messages of one topic. The AMQP `type` says how its body is written, so that any program that
binds a queue of its own to the exchange can read it:

`appliance.message`
    One message: the body is its bytes, unchanged.
`appliance.pack`
    Messages that keep their own ids and times: a JSON array of `[id, received_at, text]`, or of
    `[id, received_at, null, base64]` where the bytes are not text.
`appliance.lines`
    A batch of text lines: a JSON array of strings. Line n has the id of the envelope plus n. The
    worker hands such a body to the database as it is.

Two more types are no envelopes. `appliance.report` is a ledger report (`contents.LedgerReport`), in
our own queue only. An AMQP message of any other type is one message of another program; its
`message_id`, if it has one, is its idempotency key.
"""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from appliance.errors import EnvelopeError
from appliance.model.ids import ids_from, is_id
from appliance.model.timestamps import is_time


class Kind(StrEnum):
    """The way in which an envelope's body is written; the value is the AMQP `type`."""

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

    `id` and `received_at` are those of the first message. `ledger` is the text of its ledger entry;
    empty where another program published it.
    """

    topic: str
    kind: Kind
    id: str
    received_at: str
    count: int
    size: int
    body: bytes
    ledger: str = ""


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


def single(topic: str, message_id: str, received_at: str, body: bytes) -> Envelope:
    """Put one message into an envelope, its bytes unchanged."""
    return Envelope(topic, Kind.MESSAGE, message_id, received_at, 1, len(body), body)


def batch(topic: str, prefix: str, received_at: str, lines: Sequence[bytes]) -> Envelope:
    """Put the lines of one request into an envelope; at least one.

    Lines that are all text become the kind that the database splits itself.
    """
    first, together = prefix + "00000000", b"\n".join(lines)
    size, text = len(together) - len(lines) + 1, as_text(together)
    if isinstance(text, str):
        body = _array_of(lines, together, text)
        return Envelope(topic, Kind.LINES, first, received_at, len(lines), size, body)
    ids = ids_from(first, len(lines))
    return pack(topic, [(i, received_at, line) for i, line in zip(ids, lines, strict=True)], size)


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
