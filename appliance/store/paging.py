"""Pages and exports for any engine: a page is bounded in rows and in bytes, an export is pages."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, Final, TypeVar

from appliance.store.filters import Found
from appliance.store.rows import NumberedT, Page, Span, StoredMessage

#: Bytes of bodies and number of rows in one piece of an export. Each piece is one read of a few
#: milliseconds and one hop between threads; below 64 KiB the hops would take most of the time.
_PIECE_BYTES: Final = 256 * 2**10
_PIECE_ROWS: Final = 2000

_SpanT = TypeVar("_SpanT", bound=Span)


def take(
    cursor: Any, make: Callable[[Iterable[Any]], NumberedT], limit: int, max_bytes: int
) -> Page[NumberedT]:
    """Return a page of the rows that a cursor yields, and close the cursor.

    The page has up to `limit` rows and `max_bytes` of bodies, and at least one row if there is
    any.
    """
    rows: list[NumberedT] = []
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
    read_page: Callable[[_SpanT, int, int], Page[NumberedT]],
    span: _SpanT,
    newest: int,
    limit: int | None,
) -> Iterator[list[NumberedT]]:
    """Yield up to `limit` rows (None: all that are stored now) in short lists.

    `read_page` returns a page of a span, given the most rows and bytes. Rows after `newest` are
    left out, so that an export of a topic that grows comes to an end.
    """
    if span.before is None or span.before > newest:
        span = replace(span, before=newest + 1)
    while limit is None or limit > 0:
        count = _PIECE_ROWS if limit is None else min(limit, _PIECE_ROWS)
        page = read_page(span, count, _PIECE_BYTES)
        if page.rows:
            yield page.rows
        if not page.more:
            return
        if limit is not None:
            limit -= len(page.rows)
        last = page.rows[-1].seq
        span = replace(span, before=last) if span.after is None else replace(span, after=last)


def found_pieces(
    find: Callable[[Span, int, int], Found], span: Span, limit: int | None
) -> Iterator[list[StoredMessage]]:
    """Yield up to `limit` rows (None: all that are stored now) of a search in short lists.

    `find` returns a page of a span, given the most rows and bytes. A piece of the search that finds
    nothing yields an empty list, so that whoever reads can stop in between.
    """
    newest: int | None = None
    while limit is None or limit > 0:
        count = _PIECE_ROWS if limit is None else min(limit, _PIECE_ROWS)
        found = find(span, count, _PIECE_BYTES)
        if newest is None:
            newest = found.newest
            if span.before is None or span.before > newest:
                span = replace(span, before=newest + 1)
        yield found.rows
        if not found.more:
            return
        if limit is not None:
            limit -= len(found.rows)
        if span.after is None:
            span = replace(span, before=found.reached)
        else:
            span = replace(span, after=found.reached)
