"""Columns of a view: one for each key of JSON bodies, with a name of its own. Pure."""

import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

#: Columns of the view that are the message's own, in front of the keys, and behind them.
FIRST: Final = ("seq", "message_id", "received_at")
LAST: Final = ("body",)
_OTHER: Final = re.compile(r"\W+")
#: Characters of a name.
_LONGEST: Final = 60


class ViewColumn(NamedTuple):
    """A column's name, and the path of its value in a body."""

    name: str
    path: str


def view_columns(paths: Iterable[str], present: Sequence[ViewColumn] = ()) -> list[ViewColumn]:
    """Return the columns of a view: those that it has already, then one for each new path.

    A name has letters, digits and underscores: `customer.id` is `customer_id`. SQL does not tell
    small letters from capitals, so names that differ in nothing else get a number.
    """
    columns = list(present)
    taken = {name.casefold() for name in (*FIRST, *LAST, *(column.name for column in columns))}
    known = {column.path for column in columns}
    for path in paths:
        if path in known:
            continue
        plain = _OTHER.sub("_", path).strip("_")[:_LONGEST] or "key"
        name, number = plain, 1
        while name.casefold() in taken:
            number += 1
            name = f"{plain}_{number}"
        taken.add(name.casefold())
        columns.append(ViewColumn(name, path))
    return columns
