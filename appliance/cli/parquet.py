"""Writes an export as Parquet; the only importer of pyarrow, which is an extra.

Everything is exact: bodies that are text are in `body`, all others in `body_bytes`, and numbers
that are taken out of JSON bodies get a type that holds each of them.
"""

import base64
import importlib
import re
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any, BinaryIO, Final

import orjson

from appliance.cli.exporting import Tally
from appliance.errors import ClientError, MissingExtraError
from appliance.model.json_path import JsonPath
from appliance.model.json_pretty import Digits, compact, exact

#: Rows and bytes of bodies of one row group: they bound the memory.
_GROUP_ROWS: Final = 50_000
_GROUP_BYTES: Final = 16 * 2**20
_INT64: Final = range(-(2**63), 2**63)
#: Digits of a whole number that a double holds, whatever they are, and that a decimal holds.
_DOUBLE_DIGITS: Final = 15
_DECIMAL_DIGITS: Final = 38
_WHOLE: Final = ("small", "int64", "decimal")
#: A real number that a double holds, as far as its exponent tells.
_REAL: Final = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,2})?", re.ASCII)

_MISSING: Final = (
    "Parquet needs the package pyarrow, which is not installed here; install it beside this "
    "command: pip install 'queue-appliance[parquet]'. The image does not have it: run the export "
    "where pip is, with APPLIANCE_URL and APPLIANCE_TOKEN"
)

Row = dict[str, Any]


def require() -> Any:
    """Return pyarrow. Raises MissingExtraError, with how to install it."""
    try:
        importlib.import_module("pyarrow.parquet")
        return importlib.import_module("pyarrow")
    except ImportError as error:
        raise MissingExtraError(_MISSING) from error


def rows_of(pieces: Iterable[bytes]) -> Iterator[Row]:
    """Yield the message of each line of an export as NDJSON, whose pieces end anywhere.

    Raises ClientError for a line that is no message.
    """
    rest = b""
    for piece in pieces:
        lines = (rest + piece).split(b"\n")
        rest = lines.pop()
        try:
            yield from map(orjson.loads, lines)
        except ValueError as error:
            raise ClientError("the answer is not from the appliance's API") from error
    if rest:
        raise ClientError("the answer ended within a message")


class Kinds:
    """The types of columns that are taken out of JSON bodies, as their values ask for them."""

    def __init__(self, paths: Sequence[JsonPath]) -> None:
        self._paths = paths
        self._seen: list[set[str]] = [set() for _ in paths]

    def look_at(self, row: Row) -> None:
        """Take note of the values in a message."""
        document = _document(row)
        for path, seen in zip(self._paths, self._seen, strict=True):
            value = path.find(document)
            if value is not None:
                seen.add(_kind(value))

    def types(self, arrow: Any) -> list[Any]:
        """Return a type for each column that holds all the values; text where they differ."""
        return [_type(seen, arrow) for seen in self._seen]


class ParquetWriter:
    """Writes messages to a file, a group of rows at a time.

    `columns` are names and paths of columns out of the JSON bodies, `types` their types; without
    them the whole message is written.
    """

    def __init__(
        self,
        file: BinaryIO,
        columns: Sequence[tuple[str, JsonPath]] = (),
        types: Sequence[Any] = (),
    ) -> None:
        self._arrow: Any = require()
        self._columns = columns
        arrow = self._arrow
        fields = [
            ("id", arrow.string()),
            ("topic", arrow.dictionary(arrow.int32(), arrow.string())),
            ("received_at", arrow.timestamp("ms", tz="UTC")),
        ]
        if columns:
            fields += [(name, kind) for (name, _), kind in zip(columns, types, strict=True)]
        else:
            text = arrow.string()
            fields += [("body", text), ("body_bytes", arrow.binary())]
            fields += [("content_type", text), ("meta", text)]
        self._schema = arrow.schema(fields)
        self._writer = arrow.parquet.ParquetWriter(file, self._schema, compression="zstd")

    def write(self, rows: Iterable[Row], tally: Tally) -> None:
        """Write all rows."""
        group: list[Row] = []
        size = 0
        for row in rows:
            group.append(row)
            size += len(row["body"])
            if len(group) == _GROUP_ROWS or size >= _GROUP_BYTES:
                self._write(group)
                tally.add(len(group), size)
                group, size = [], 0
        if group:
            self._write(group)
            tally.add(len(group), size)

    def close(self) -> None:
        """Write the end of the file."""
        self._writer.close()

    def _write(self, group: list[Row]) -> None:
        arrow = self._arrow
        values: list[list[Any]] = [
            [row["id"] for row in group],
            [row["topic"] for row in group],
            [row["received_at"] for row in group],
        ]
        if self._columns:
            values += self._taken_out(group)
        else:
            is_text = [row["encoding"] == "utf-8" for row in group]
            pairs = list(zip(group, is_text, strict=True))
            values += [
                [row["body"] if text else None for row, text in pairs],
                [None if text else base64.b64decode(row["body"]) for row, text in pairs],
                [row["content_type"] for row in group],
                [_meta(row["meta"]) for row in group],
            ]
        arrays = [
            self._array(column, field) for column, field in zip(values, self._schema, strict=True)
        ]
        self._writer.write_batch(arrow.RecordBatch.from_arrays(arrays, schema=self._schema))

    def _array(self, column: list[Any], field: Any) -> Any:
        arrow = self._arrow
        if field.name == "topic":
            return arrow.array(column, arrow.string()).dictionary_encode()
        if field.name == "received_at":
            return _times(column, field.type, arrow)
        return arrow.array(column, field.type)

    def _taken_out(self, group: list[Row]) -> list[list[Any]]:
        makers = [_maker(field.type, self._arrow) for field in list(self._schema)[3:]]
        taken: list[list[Any]] = [[] for _ in makers]
        for row in group:
            document = _document(row)
            for (_, path), make, column in zip(self._columns, makers, taken, strict=True):
                value = path.find(document)
                column.append(None if value is None else make(value))
        return taken


def _document(row: Row) -> Any:
    try:
        return exact(row["body"]) if row["encoding"] == "utf-8" else None
    except ValueError:
        return None


def _kind(value: Any) -> str:
    """Return the type that holds this value exactly."""
    if isinstance(value, bool):
        return "bool"
    if not isinstance(value, Digits):
        return "text"
    if value.lstrip("-").isdigit():
        digits = len(value.lstrip("-"))
        if digits <= _DOUBLE_DIGITS:
            return "small"
        if digits <= _DECIMAL_DIGITS:
            return "int64" if int(value) in _INT64 else "decimal"
        return "text"
    return "double" if _REAL.fullmatch(value) else "text"


def _type(seen: set[str], arrow: Any) -> Any:
    if seen == {"bool"}:
        return arrow.bool_()
    if seen and seen <= {"small", "int64"}:
        return arrow.int64()
    if seen and seen <= {"small", "int64", "decimal"}:
        return arrow.decimal128(_DECIMAL_DIGITS, 0)
    if seen and seen <= {"small", "double"}:
        return arrow.float64()
    return arrow.string()


def _maker(kind: Any, arrow: Any) -> Any:
    """Return what makes a value of JSON one of this type; for text, as it came.

    A value that came after the types were decided on, and has no place in its column, is a
    ClientError.
    """
    types = arrow.types

    def made(value: Any) -> Any:
        is_number = isinstance(value, Digits)
        if types.is_string(kind):
            return str(value) if isinstance(value, str) else compact(value)
        if types.is_boolean(kind) and isinstance(value, bool):
            return value
        if is_number and types.is_floating(kind) and _kind(value) in ("small", "double"):
            return float(value)
        if is_number and types.is_int64(kind) and _kind(value) in ("small", "int64"):
            return int(value)
        if is_number and types.is_decimal(kind) and _kind(value) in _WHOLE:
            return Decimal(value)
        raise ClientError("a value of another type was stored meanwhile; export once more")

    return made


def _times(column: list[str], kind: Any, arrow: Any) -> Any:
    """Return times; null for one that someone has broken by SQL."""
    try:
        return arrow.array(column, arrow.string()).cast(kind)
    except arrow.ArrowInvalid:
        return arrow.concat_arrays([_time(each, kind, arrow) for each in column])


def _time(text: str, kind: Any, arrow: Any) -> Any:
    try:
        return arrow.array([text], arrow.string()).cast(kind)
    except arrow.ArrowInvalid:
        return arrow.nulls(1, kind)


def _meta(meta: Any) -> str | None:
    if meta is None:
        return None
    return meta if isinstance(meta, str) else orjson.dumps(meta).decode()
