"""A move of all that is stored to a database of another engine: compared, whole or not at all.

Nobody else writes to the database that is left while it is read, and nobody can after. So there is
no last piece that comes too late: messages wait in the queue meanwhile, and whoever stores next
finds each in one place. The database that is left is closed before the other one is there. Where
that fails in between, the same move made again finishes it.
"""

import hashlib
import marshal
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Final, NamedTuple

from appliance.errors import MovedError, MoveError, StoreError
from appliance.model import timestamps
from appliance.store.base import Progress
from appliance.store.move_sides import MovedRow, MoveMark, MoveSource, MoveTarget
from appliance.store.moved_tables import MOVED, MovedTable

#: The form of `marshal` that says the same of equal values, however they came about.
_FORM: Final = 2
#: Rows between two looks at the clock, and seconds between two signs of progress.
_ROWS: Final = 256
_SHOW_EVERY: Final = 0.2


class TableMoved(NamedTuple):
    """What both databases have of a table: how many rows, and the digest of all of them."""

    name: str
    rows: int
    digest: str


class MoveOutcome(NamedTuple):
    """What was moved, or was found to have been moved before."""

    tables: list[TableMoved]
    #: rows with a text that the other engine can't keep as it was
    changed: int
    was_moved_before: bool


def move(source: MoveSource, target: MoveTarget, progress: Progress) -> MoveOutcome:
    """Move all rows; both databases are as before where this raises, unless its words say more.

    Raises MovedError where they were moved elsewhere before, MoveError where the target is not
    empty or the rows differ in the end, StoreError where a database can't be used.
    """
    before, held = source.mark, target.held()
    if before is not None and before.target != target.location:
        raise MovedError(before.words(source.location))
    if held and before is None:
        raise MoveError(
            f"{target.location} is not empty: {held}; name a new database, or a new file"
        )
    tables = sum(source.count(table) for table in MOVED)
    meter = _Meter(progress, tables * 2)
    sent = [
        _read(table, source, target, meter) if held else _copy(table, source, target, meter)
        for table in MOVED
    ]
    for table, one in zip(MOVED, sent, strict=True):
        _compare(table, one, source, target, meter, before)
    if held:
        return MoveOutcome(sent, target.changed, was_moved_before=True)
    target.settle()
    if before is None:
        source.leave(MoveMark(target.location, timestamps.now()))
    try:
        target.commit()
    except StoreError as error:
        raise MoveError(
            f"{error}; {source.location} takes no messages any more, and it is not known whether "
            f"{target.location} has them: give the same command again, which finishes the move, or "
            "go back with appliance export --undo; messages wait in the queue"
        ) from error
    return MoveOutcome(sent, target.changed, was_moved_before=False)


class _Digest:
    """Counts rows, and makes one digest of them all."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self.rows = 0

    def of(self, rows: Iterable[MovedRow]) -> Iterator[MovedRow]:
        update, dumps = self._hash.update, marshal.dumps
        for row in rows:
            self.rows += 1
            update(dumps(row, _FORM))
            yield row

    def of_table(self, table: MovedTable) -> TableMoved:
        return TableMoved(table.name, self.rows, self._hash.hexdigest())


class _Meter:
    """Says now and then how far the move has come."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._total = max(1, total)
        self._done = 0
        self._show_at = 0.0

    def passing(self, step: str, rows: Iterable[MovedRow]) -> Iterator[MovedRow]:
        for row in rows:
            self._done += 1
            if not self._done % _ROWS:
                self._show(step)
            yield row

    def _show(self, step: str) -> None:
        now = time.monotonic()
        if now >= self._show_at:
            self._show_at = now + _SHOW_EVERY
            if not self._progress(step, min(1.0, self._done / self._total)):
                raise MoveError("the move was stopped; nothing was changed")


def _copy(table: MovedTable, source: MoveSource, target: MoveTarget, meter: _Meter) -> TableMoved:
    digest = _Digest()
    with closing(source.rows(table)) as rows:  # before the connection is, however this ends
        fitted = (target.fitted(table, row) for row in rows)
        target.write(table, digest.of(meter.passing("copying", fitted)))
    if table.is_numbered:
        target.go_on_after(table, source.last_number(table))
    return digest.of_table(table)


def _read(table: MovedTable, source: MoveSource, target: MoveTarget, meter: _Meter) -> TableMoved:
    with closing(source.rows(table)) as rows:
        return _look_at(table, (target.fitted(table, row) for row in rows), meter)


def _look_at(table: MovedTable, rows: Iterable[MovedRow], meter: _Meter) -> TableMoved:
    digest = _Digest()
    for _ in digest.of(meter.passing("comparing", rows)):
        pass
    return digest.of_table(table)


def _compare(  # two databases, and what is known of each
    table: MovedTable,
    sent: TableMoved,
    source: MoveSource,
    target: MoveTarget,
    meter: _Meter,
    before: MoveMark | None,
) -> None:
    """Raise MoveError unless the other database has the same rows, and goes on behind them."""
    with closing(target.rows(table)) as rows:
        there = _look_at(table, rows, meter)
    numbers = [side.last_number(table) for side in (source, target) if table.is_numbered]
    if there == sent and len(set(numbers)) <= 1:
        return
    found = f"{table.name} has {sent.rows:,} rows in {source.location}"
    if there.rows != sent.rows:
        found += f", and {there.rows:,} in {target.location}"
    else:
        found += f", and not the same ones in {target.location}"
    if before is not None:
        raise MoveError(f"{found}: it was moved there at {before.at}, and is in use since")
    raise MoveError(f"{found}; nothing was changed")
