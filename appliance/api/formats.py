"""How messages are written: JSON, NDJSON, CSV."""

import base64
import csv
import io
from collections.abc import Iterable, Iterator
from typing import Any, Final

import orjson

from appliance.store.reader import DeadRow, Row

JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
CSV: Final = "text/csv; charset=utf-8"

#: The columns of a CSV export, in order.
COLUMNS: Final = ("id", "topic", "received_at", "encoding", "body")
#: A cell that begins with one of these is a formula to a spreadsheet, or hides one.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


def dump(value: object) -> bytes:
    """Return JSON with a line's end, so that curl's output is pleasant."""
    return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)


def message(row: Row) -> dict[str, object]:
    """Return a message as the API shows it; bytes that are no text are written as base64."""
    body, encoding = _body(row.body, text=bool(row.text))
    return {
        "id": row.id,
        "topic": row.topic,
        "received_at": row.received_at,
        "body": body,
        "encoding": encoding,
    }


def dead_letter(row: DeadRow) -> dict[str, object]:
    """Return a dead letter as the API shows it."""
    body, encoding = _body(row.body, text=b"\0" not in row.body)
    return {
        "id": row.id,
        "topic": row.topic,
        "received_at": row.received_at,
        "body": body,
        "encoding": encoding,
        "dead_at": row.dead_at,
        "reason": row.reason,
        "error": row.error,
    }


def ndjson(pieces: Iterable[list[Row]]) -> Iterator[bytes]:
    """Write one JSON object a line."""
    for rows in pieces:
        yield b"".join([dump(message(row)) for row in rows])


def csv_table(pieces: Iterable[list[Row]]) -> Iterator[bytes]:
    """Write CSV (RFC 4180) with a header, safe to open in a spreadsheet.

    A cell that a spreadsheet would run as a formula gets an apostrophe before it. That can't be
    undone without doubt: who needs the exact bytes asks for NDJSON.
    """
    text = io.StringIO()
    writer: Any = csv.writer(text)
    writer.writerow(COLUMNS)
    for rows in pieces:
        for row in rows:
            body, encoding = _body(row.body, text=bool(row.text))
            writer.writerow((row.id, row.topic, row.received_at, encoding, cell(body)))
        yield text.getvalue().encode()
        text.seek(0)
        text.truncate()
    if text.tell():
        yield text.getvalue().encode()


def cell(value: str) -> str:
    """Return a cell's text, made harmless to a spreadsheet."""
    return "'" + value if value.startswith(_FORMULA) else value


def _body(body: bytes, *, text: bool) -> tuple[str, str]:
    if text:
        try:
            return body.decode(), "utf-8"
        except UnicodeDecodeError:
            pass  # another program wrote TEXT that is none
    return base64.b64encode(body).decode(), "base64"
