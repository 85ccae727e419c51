"""Rows page by page: a page has a bound in rows and in bytes, an export is a row of small pages."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, Protocol, TypeVar

#: Bytes of bodies on one page; bounds what one request can make the API hold.
PAGE_BYTES: Final = 8 * 2**20
#: Bytes of bodies and count of rows of one piece of an export. Each piece is one read of a few
#: milliseconds and one hop between threads; pieces below 64 KiB make the hops the bound.
_PIECE_BYTES: Final = 256 * 2**10
_PIECE_ROWS: Final = 2000


class _Numbered(Protocol):
    @property
    def seq(self) -> int: ...
    @property
    def body(self) -> bytes | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Rows with a `seq` below `before` and above `after`.

    With `after` they come oldest first, so that going on after the last one skips none; else
    newest first.
    """

    before: int | None = None
    after: int | None = None


_R = TypeVar("_R", bound=_Numbered)
_S = TypeVar("_S", bound=Span)


@dataclass(frozen=True, slots=True)
class Page(Generic[_R]):
    """Some rows of a span, and whether there were more when it was read."""

    rows: list[_R]
    more: bool


def take(cursor: Any, make: Callable[[Iterable[Any]], _R], limit: int, max_bytes: int) -> Page[_R]:
    """Make a page of what a cursor yields: up to `limit` rows and `max_bytes` of bodies, and at
    least one row if there is any.
    """  # noqa: D205
    rows: list[_R] = []
    size = 0
    try:
        for values in cursor:
            row = make(values)
            size += len(row.body or b"")
            if len(rows) == limit or (rows and size > max_bytes):
                return Page(rows, more=True)
            rows.append(row)
        return Page(rows, more=False)
    finally:
        cursor.close()  # a statement that is not at its end keeps its snapshot


def pieces(
    page: Callable[[_S, int, int], Page[_R]], span: _S, newest: int, limit: int | None
) -> Iterator[list[_R]]:
    """Yield up to `limit` rows (None: all that are there now) in short lists.

    `page` returns a page of a span, of so many rows and bytes at most. What comes after `newest`
    is left out, so that an export of what grows ends.
    """
    if span.before is None or span.before > newest:
        span = replace(span, before=newest + 1)
    while limit is None or limit > 0:
        count = _PIECE_ROWS if limit is None else min(limit, _PIECE_ROWS)
        found = page(span, count, _PIECE_BYTES)
        if found.rows:
            yield found.rows
        if not found.more:
            return
        if limit is not None:
            limit -= len(found.rows)
        end = found.rows[-1].seq
        span = replace(span, before=end) if span.after is None else replace(span, after=end)
