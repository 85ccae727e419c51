"""Rescues the rows of a damaged database: all that can be read goes into a new, sound one.

A damaged page takes its rows with it, and everything that SQLite would read behind it in one go. So
rows are read in small steps, by their numbers; where a step fails, the next number that can be read
is looked for. The indexes are pages of their own, and often name what was lost.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from appliance.errors import BackupError
from appliance.store.base import Progress
from appliance.store.rows import Rescued
from appliance.store.sqlite import expiry, migrations, paths
from appliance.store.sqlite.database import connect, sqlite3, store_error
from appliance.store.sqlite.recount import SqliteRecount
from appliance.store.sqlite.rescued_leases import mend_leases

#: Seconds to wait for another process.
_BUSY: Final = 5.0
#: Rows that are read at once while all is well.
_STEP: Final = 500
#: The largest number that a row can have.
_LAST: Final = 2**63 - 1
#: Lost messages that are named.
_MOST_NAMED: Final = 20
#: Tables that the new database has already, with rows of its own. A new identity has the search
#: index made anew.
_OWN: Final = (
    "_sqlite_migrations",
    "sqlite_sequence",
    "access_version",
    "search_identity",
    "search_changes",
)


def rescue(source: Path, draft: Path, progress: Progress) -> Rescued:
    """Copy what can be read of `source` into the new database `draft`, which is sound then.

    Raises BackupError where it was stopped, StoreError where nothing can be read.
    """
    migrations.migrate(draft)
    paths.with_suffix(draft, ".migrate").unlink(missing_ok=True)
    result = Rescued(draft)
    reached: dict[str, int] = {}
    new = connect(draft, readonly=False)
    old = sqlite3.connect(
        f"{source.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=_BUSY
    )
    try:
        # SQLite then goes on with what it understands of a damaged schema.
        old.execute("PRAGMA writable_schema = ON")
        try:
            old.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.Error as error:
            raise BackupError(f"{source} can't be read at all: {error}") from error
        new.execute("PRAGMA journal_mode = DELETE")  # one file, like every backup
        for table in _tables(new):
            new.execute("BEGIN")
            copied = _Table(old, new, table, result, progress)
            copied.copy()
            reached[table] = copied.reached
            new.execute("COMMIT")
        if _is_lacking(result, "leases") and mend_leases(old, new, reached["leases"]):
            result.lost.pop("leases", None)
            result.unknown = [table for table in result.unknown if table != "leases"]
        if _is_lacking(result, "expirations"):
            new.execute(expiry.ADD, (-_LAST,))  # the messages' own meta says them too
        _go_on_numbering(old, new)
    except sqlite3.Error as error:
        raise store_error(error, source) from error
    finally:
        old.close()
        new.close()
    SqliteRecount(draft, lambda _: False).run()
    for suffix in paths.BESIDE:
        paths.with_suffix(draft, suffix).unlink(missing_ok=True)
    return result


def _tables(new: Any) -> list[str]:
    rows = new.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    return [name for (name,) in rows if name not in _OWN]


def _is_lacking(result: Rescued, table: str) -> bool:
    return table in result.unknown or table in result.lost


def _go_on_numbering(old: Any, new: Any) -> None:
    """Never use a row's number twice, not even a lost one's."""
    with suppress(sqlite3.Error):
        for name, number in old.execute("SELECT name, seq FROM sqlite_sequence").fetchall():
            new.execute(
                "UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = ?", (number, name)
            )


class _Table:
    """One table, copied row by row where it must be."""

    def __init__(self, old: Any, new: Any, table: str, result: Rescued, progress: Progress) -> None:
        self._old, self._new = old, new
        self._table = table
        self._result = result
        self._progress = progress
        #: the last number that was read from the beginning without a fault
        self.reached = 0
        columns = new.execute("SELECT name, pk FROM pragma_table_info(?)", (table,)).fetchall()
        self._names = ", ".join(name for name, _ in columns)
        self._key = next((name for name, place in columns if place == 1), "rowid")
        self._is_numbered = not new.execute(
            "SELECT wr FROM pragma_table_list WHERE name = ?", (table,)
        ).fetchone()[0]
        self._number = columns.index((self._key, 1)) if (self._key, 1) in columns else 0
        self._greatest = _LAST
        with suppress(sqlite3.Error):
            row = old.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).fetchone()
            self._greatest = row[0] if row and isinstance(row[0], int) else _LAST
        marks = ", ".join("?" * len(columns))
        self._into = f"INTO {table} ({self._names}) VALUES ({marks})"

    def copy(self) -> None:
        before = self._new.total_changes
        try:
            if self._is_numbered:
                for rows in self._numbered():
                    self._put(rows)
            else:
                self._put(self._select("ORDER BY 1", ()))
        except sqlite3.Error:
            # Small tables, which end where they are damaged: read from the other end too.
            self._result.unknown.append(self._table)
            self._each_end()
        self._result.rows[self._table] = self._new.total_changes - before

    def _numbered(self) -> Iterator[list[Any]]:
        """Yield the rows of a table whose rows have numbers, around what is damaged."""
        last = -_LAST
        while True:
            if not self._progress("rescuing", None):
                raise BackupError("the rescue was stopped")
            try:
                rows = self._after(last, _STEP)
            except sqlite3.Error:
                rows = self._one_by_one(last)
                if rows:
                    yield rows
                    last = rows[-1][self._number]
                found = self._beyond(last)
                self._note_lost(last, found)
                if found is None:
                    return
                last = found - 1
                continue
            if not rows:
                return
            yield rows
            last = rows[-1][self._number]

    def _one_by_one(self, last: int) -> list[Any]:
        rows: list[Any] = []
        with suppress(sqlite3.Error):
            while len(rows) < _STEP and (row := self._after(last, 1)):
                rows += row
                last = row[0][self._number]
        return rows

    def _beyond(self, last: int) -> int | None:
        """Return the number of the first row behind `last` that can be read; None for none.

        To look for a number leads past the damaged page once the number is behind all of its rows.
        """
        start = max(last, 0)
        step, low = 1, start
        while True:
            high = min(start + step, _LAST)
            try:
                rows = self._after(high, 1)
                break
            except sqlite3.Error:
                if high == _LAST:
                    return None
                step, low = step * 2, high
        found = rows[0][self._number] if rows else None
        while low + 1 < high:
            middle = (low + high) // 2
            try:
                rows = self._after(middle, 1)
            except sqlite3.Error:
                low = middle
            else:
                high = middle
                found = rows[0][self._number] if rows else None
        return found

    def _note_lost(self, last: int, found: int | None) -> None:
        """Count the rows between two numbers, as an index names them."""
        result, table = self._result, self._table
        try:
            lost = self._old.execute(
                "SELECT id FROM messages INDEXED BY sqlite_autoindex_messages_1 "
                "WHERE +seq > ? AND +seq < ?",
                (last, _LAST if found is None else found),
            ).fetchall() if table == "messages" else None  # fmt: skip
        except sqlite3.Error:
            lost = None
        if lost is None:
            if table not in result.unknown:
                result.unknown.append(table)
            return
        result.lost[table] = result.lost.get(table, 0) + len(lost)
        result.ids += [name for (name,) in lost[: _MOST_NAMED - len(result.ids)]]

    def _each_end(self) -> None:
        for order in ("ORDER BY 1", "ORDER BY 1 DESC"):
            rows: list[Any] = []
            with suppress(sqlite3.Error):
                cursor = self._old.execute(
                    f"SELECT {self._names} FROM {self._table} {order}"  # noqa: S608
                )
                while row := cursor.fetchone():
                    rows.append(row)
            if order == "ORDER BY 1" and rows and isinstance(rows[-1][0], int):
                self.reached = rows[-1][0]
            self._new.executemany(f"INSERT OR IGNORE {self._into}", rows)

    def _after(self, number: int, most: int) -> list[Any]:
        rows = self._select(f"WHERE {self._key} > ? ORDER BY {self._key} LIMIT {most}", (number,))
        numbers = [number, *(row[self._number] for row in rows)]
        if any(not isinstance(each, int) for each in numbers) or numbers != sorted(set(numbers)):
            raise sqlite3.DatabaseError("rows out of order")  # else the copy might never end
        if rows and numbers[-1] > self._greatest:
            raise sqlite3.DatabaseError("a number that no row was given")
        return rows

    def _select(self, rest: str, values: tuple[int, ...]) -> list[Any]:
        statement = f"SELECT {self._names} FROM {self._table} NOT INDEXED {rest}"  # noqa: S608
        rows: list[Any] = self._old.execute(statement, values).fetchall()
        return rows

    def _put(self, rows: list[Any]) -> None:
        """Insert rows; one that damage has made impossible is lost."""
        for row in rows:
            try:
                self._new.execute(f"INSERT {self._into}", row)
            except sqlite3.Error:
                lost = self._result.lost
                lost[self._table] = lost.get(self._table, 0) + 1
