"""Columns of a CSV export that are taken out of JSON bodies. Pure."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from appliance.errors import InputError
from appliance.model.json_path import JsonPath
from appliance.model.json_pretty import compact, exact
from appliance.store.rows import StoredMessage

#: Columns of one export.
_MOST: Final = 100
#: The columns before those that were asked for.
FIRST: Final = ("id", "topic", "received_at")
#: A comma between two paths; one in quotes is part of a name.
_COMMA: Final = re.compile(r',(?=(?:[^"]*"[^"]*")*[^"]*\Z)')


class JsonColumns:
    """The columns that `columns=device,data.temperature` asks for.

    `named` are their names and paths, `titles` the titles of the whole table.
    """

    def __init__(self, text: str) -> None:
        """Read the paths. Raises InputError, in words."""
        names = [name.strip() for name in _COMMA.split(text, _MOST)]
        if len(names) > _MOST:
            raise InputError(f"columns: expected {_MOST} at most")
        self.named = [(name, _path(name)) for name in names]
        self.titles: Sequence[str] = (*FIRST, *names)

    def cells(self, row: StoredMessage, to_cell: Callable[[str], str]) -> Iterable[object]:
        """Return a message's cells; those of a body that is no JSON are empty."""
        yield row.id
        yield to_cell(row.topic)
        yield row.received_at
        yield from self._values(row, to_cell)

    def _values(self, row: StoredMessage, to_cell: Callable[[str], str]) -> Iterator[str]:
        try:
            document = exact(row.body.decode()) if row.text else None
        except ValueError:
            document = None
        for _, path in self.named:
            yield to_cell(_text(path.find(document)))


def json_columns(form: str, text: str | None) -> JsonColumns | None:
    """Return the columns of an export: `columns=`, which only a CSV can have. Raises InputError."""
    if text is None:
        return None
    if form != "csv":
        raise InputError("columns: needs format=csv")
    return JsonColumns(text)


def _path(name: str) -> JsonPath:
    start = "$" if name.startswith("[") else "$."
    try:
        return JsonPath(name if name.startswith("$") else start + name)
    except ValueError as error:
        raise InputError(
            f"columns: {name[:50]!r} is no path; expected paths with commas between them, such as "
            'device,data.temperature,items[0].id,["a name"]'
        ) from error


def _text(value: Any) -> str:
    """Return a value as a cell shows it: a text or a number as it came, nothing for null."""
    if value is None:
        return ""
    if isinstance(value, str):  # Digits too
        return str(value)
    return compact(value)
