"""A SQLite file that is left for a database of another engine: read while nobody else writes."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from appliance.store.move_sides import MovedRow, MoveMark
from appliance.store.moved_tables import MovedTable
from appliance.store.sqlite import closed, migrations, usage
from appliance.store.sqlite.database import connect, sqlite3, store_error, transaction

#: Milliseconds to wait for those who write: under load, it is their turn again at once.
_BUSY_TIMEOUT_MS: Final = 60_000


class SqliteSource:
    """The database at `path`, on a connection that holds its writers' lock."""

    def __init__(self, path: Path, connection: Any, mark: MoveMark | None) -> None:
        self._path = path
        self._connection = connection
        self.location = str(path)
        self.mark = mark

    def count(self, table: MovedTable) -> int:
        """Return how many rows a table has."""
        with _speaking_of(self._path):
            row = self._connection.execute(f"SELECT count(*) FROM {table.name}").fetchone()  # noqa: S608
            return int(row[0])

    def rows(self, table: MovedTable) -> Generator[MovedRow, None, None]:
        """Yield all rows in the order of the key."""
        with _speaking_of(self._path):
            yield from all_rows(self._connection, table)

    def last_number(self, table: MovedTable) -> int:
        """Return the greatest number that a row ever had."""
        with _speaking_of(self._path):
            return last_number(self._connection, table)

    def leave(self, mark: MoveMark) -> None:
        """Close it for good."""
        with _speaking_of(self._path):
            closed.close(self._connection, mark)
            self._connection.execute("COMMIT")


def all_rows(connection: Any, table: MovedTable) -> Iterator[MovedRow]:
    """Yield all rows of a table in the order of its key."""
    columns = ", ".join(
        # Someone's SQL may have made a text of it; for every other engine it is bytes.
        "CAST(body AS BLOB)" if name == "body" and not table.is_mixed else f'"{name}"'
        for name in table.columns
    )
    key = ", ".join(f'"{name}"' for name in table.key)
    yield from connection.execute(f"SELECT {columns} FROM {table.name} ORDER BY {key}")  # noqa: S608


def last_number(connection: Any, table: MovedTable) -> int:
    """Return the greatest number that a row of the table ever had; 0: none."""
    row = connection.execute(
        "SELECT max(seq) FROM sqlite_sequence WHERE name = ?", (table.name,)
    ).fetchone()
    return int(row[0] or 0)


@contextmanager
def departing(path: Path) -> Iterator[SqliteSource]:
    """Lend the database while nobody else writes to it, beside processes that use it.

    Raises SchemaError unless it has this program's schema, StoreLockedError where another program
    doesn't let go of it.
    """
    with usage.shared(path), _speaking_of(path):
        connection = connect(path, readonly=False)
        try:
            connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
            migrations.check(connection, path)
            mark = closed.mark_of(connection)
            connection.execute("BEGIN" if mark else "BEGIN IMMEDIATE")
            yield SqliteSource(path, connection, mark)
        finally:
            connection.close()  # what is not committed is undone


def reopen(path: Path) -> MoveMark | None:
    """Let a database that was left take rows again; return its mark, None where it has none."""
    with usage.shared(path), _speaking_of(path):
        connection = connect(path, readonly=False)
        try:
            with transaction(connection):
                return closed.reopen(connection)
        finally:
            connection.close()


@contextmanager
def _speaking_of(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise store_error(error, path) from error
