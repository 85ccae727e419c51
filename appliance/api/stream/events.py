"""The bytes of Server-Sent Events: a message, a frame of many, a line that says nothing. Pure.

An event's id is a cursor: where a reader goes on that has lost its connection. It is the same word
that pages take as `after`.
"""

from typing import Any, Final, NamedTuple

import orjson

from appliance.api.views import formats
from appliance.api.views.parameters import seq_cursor
from appliance.store.rows import Glance, Preview, Stretch

#: Headers of every stream. A proxy must not collect or compress events, nor keep them.
HEADERS: Final = (
    b"content-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-store, no-transform\r\n"
    b"x-accel-buffering: no\r\n"
    b"x-content-type-options: nosniff\r\n"
)
#: A comment, which keeps the connection open and says nothing.
COMMENT: Final = b":\n\n"
#: Milliseconds after which a browser connects again, once its connection is lost.
RETRY: Final = b"retry: 1000\n"

#: Bytes of messages that are written together.
_PIECE_BYTES: Final = 64 * 2**10
#: Topics that a frame counts by name; the largest.
_MOST_TOPICS: Final = 50
#: Characters of a message that a frame shows, and bytes of one that is no text.
_SHOWN: Final = 200
_SHOWN_BYTES: Final = 64


class Piece(NamedTuple):
    """Whole events, and the place of the last of them."""

    data: bytes
    end: int


def event(name: str, seq: int, value: object) -> bytes:
    """Return an event whose data is JSON."""
    return _event(f"event: {name}\n".encode(), seq, orjson.dumps(value))


def place(seq: int) -> bytes:
    """Return the event that tells where a reader is, for when it must go on."""
    return event("place", seq, {"cursor": seq_cursor(seq)})


def pieces(part: Stretch) -> list[Piece]:
    """Return an event for each message, in pieces to write: each as the pages show it."""
    made: list[Piece] = []
    waiting: list[bytes] = []
    size = 0
    last = 0
    for row in part.rows:
        data = _event(b"", row.seq, orjson.dumps(formats.message(row)))
        if waiting and size + len(data) > _PIECE_BYTES:
            made.append(Piece(b"".join(waiting), last))
            waiting, size = [], 0
        waiting.append(data)
        size += len(data)
        last = row.seq
    if waiting:
        made.append(Piece(b"".join(waiting), last))
    return made


def frame(glance: Glance, seconds: float | None) -> Piece:
    """Return the event that shows what has come in `seconds` (None: that is not known)."""
    counts = glance.counts
    count = sum(counts.values())
    largest = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_MOST_TOPICS]
    value: dict[str, Any] = {
        "n": count,
        "rate": None if seconds is None else round(count / seconds),
        "topics": len(counts),
        "by_topic": dict(largest),
        "messages": [_shown(each) for each in glance.newest],
        "before": seq_cursor(glance.end + 1),
    }
    return Piece(event("messages", glance.end, value), glance.end)


def _shown(preview: Preview) -> dict[str, object]:
    if preview.kind == "binary":
        text = preview.start[:_SHOWN_BYTES].hex(" ")
    else:
        text = preview.start.decode(errors="replace")
    return {
        "id": preview.id,
        "topic": preview.topic,
        "received_at": preview.received_at,
        "preview": text[:_SHOWN],
        "bytes": preview.size,
        "kind": preview.kind,
    }


def _event(name: bytes, seq: int, data: bytes) -> bytes:
    return b"id: %b\n%bdata: %b\n\n" % (seq_cursor(seq).encode(), name, data)
