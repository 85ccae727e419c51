"""Messages and dead letters as JSON, NDJSON and CSV."""

import base64
import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

import orjson

from appliance.store.rows import Letter, StoredMessage

JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
CSV: Final = "text/csv; charset=utf-8"

#: The columns of a CSV export, in order.
COLUMNS: Final = ("id", "topic", "received_at", "encoding", "body", "content_type", "meta")
#: The same for dead letters.
LETTER_COLUMNS: Final = (
    "seq", "id", "topic", "received_at", "dead_at", "reason", "error", "bytes", "encoding", "body",
    "content_type", "meta",
)  # fmt: skip
#: A cell that begins with one of these can be a formula to a spreadsheet, unless it is a number.
#: Where Excel speaks Chinese or Japanese, the wide forms begin one too.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_NUMBER: Final = re.compile(r"[+-](?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
#: Digits that Excel would change: it drops zeros and a plus in front, keeps 15 digits, and reads
#: 12E5 as a number.
_CHANGED: Final = re.compile(r"[+-]?0[0-9]+|[+-]?[0-9]{16,}|\+[0-9]+|[0-9]+[eE][0-9]+")
#: Tells Excel that the file is UTF-8.
_BOM: Final = b"\xef\xbb\xbf"

#: Makes a text a cell.
ToCell = Callable[[str], str]

_T = TypeVar("_T")


def dump(value: object) -> bytes:
    """Return JSON and a line break, so that a shell's prompt follows on a line of its own."""
    return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)


def message(row: StoredMessage) -> dict[str, object]:
    """Return a message as the API shows it; bytes that are not text are shown as base64."""
    body, encoding = _body(row.body, text=bool(row.text))
    return {
        "id": row.id,
        "topic": row.topic,
        "received_at": row.received_at,
        "body": body,
        "encoding": encoding,
        "content_type": row.content_type,
        "meta": meta(row.meta),
    }


def letter(row: Letter) -> dict[str, object]:
    """Return a dead letter as the API shows it; a body that is too long to show is None."""
    body: str | None = None
    encoding: str | None = None
    if row.body is not None:
        body, encoding = _body(row.body, text=b"\0" not in row.body)
    return {
        "seq": row.seq,
        "id": row.id,
        "topic": row.topic,
        "received_at": row.received_at,
        "dead_at": row.dead_at,
        "reason": row.reason,
        "error": row.error,
        "bytes": row.size,
        "body": body,
        "encoding": encoding,
        "content_type": row.content_type,
        "meta": meta(row.meta),
    }


def message_cells(row: StoredMessage, to_cell: ToCell) -> list[object]:
    """Return the cells of a message in a CSV export."""
    body, encoding = _body(row.body, text=bool(row.text))
    return [
        row.id, to_cell(row.topic), row.received_at, encoding, to_cell(body),
        to_cell(row.content_type or ""), row.meta,
    ]  # fmt: skip


def letter_cells(row: Letter, to_cell: ToCell) -> list[object]:
    """Return the cells of a dead letter in a CSV export; its topic and id can hold anything."""
    shown = letter(row) | {"meta": row.meta}
    values = (shown[name] for name in LETTER_COLUMNS)
    return [to_cell(value) if isinstance(value, str) else value for value in values]


def ndjson(pieces: Iterable[list[_T]], shape: Callable[[_T], object]) -> Iterator[bytes]:
    """Yield one line of JSON for each row."""
    for rows in pieces:
        yield b"".join([dump(shape(row)) for row in rows])


def csv_table(
    pieces: Iterable[list[_T]],
    columns: Sequence[str],
    cells: Callable[[_T, ToCell], Iterable[object]],
    *,
    for_excel: bool = False,
) -> Iterator[bytes]:
    """Yield CSV (RFC 4180) with a header, safe to open in a spreadsheet.

    A cell that a spreadsheet could run as a formula gets an apostrophe before it. A reader can't
    tell it from an apostrophe that was there before; NDJSON has the exact bytes. `for_excel` it
    begins with a byte order mark, and digits are written so that Excel leaves them alone.
    """
    to_cell = excel_cell if for_excel else cell
    text = io.StringIO()
    writer: Any = csv.writer(text)
    writer.writerow(map(to_cell, columns))
    mark = _BOM if for_excel else b""
    for rows in pieces:
        writer.writerows(cells(row, to_cell) for row in rows)
        yield mark + text.getvalue().encode(errors="backslashreplace")  # of JSON's lone surrogates
        mark = b""
        text.seek(0)
        text.truncate()
    if text.tell():
        yield mark + text.getvalue().encode()


def cell(value: str) -> str:
    """Return a cell's text, made harmless to a spreadsheet; a number such as -3.5 is harmless."""
    if value.startswith(_FORMULA) and not _NUMBER.fullmatch(value):
        return "'" + value
    return value


def excel_cell(value: str) -> str:
    """Return the same for Excel; digits that it would change are a formula that says them."""
    return f'="{value}"' if _CHANGED.fullmatch(value) else cell(value)


def meta(text: str | None) -> object:
    """Return a meta as JSON; one that another program made unreadable is shown as text."""
    if text is None:
        return None
    try:
        return orjson.loads(text)
    except (ValueError, TypeError):
        return str(text)


def _body(body: bytes, *, text: bool) -> tuple[str, str]:
    if text:
        try:
            return body.decode(), "utf-8"
        except UnicodeDecodeError:
            pass  # another program stored invalid TEXT
    return base64.b64encode(body).decode(), "base64"
