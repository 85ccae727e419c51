"""A new SQLite file that takes all rows of another engine's database.

It is made beside its place, and put there when it is whole and on disk. A file that was left by an
earlier move keeps its rows under another name.
"""

import contextlib
import itertools
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from appliance.errors import BackupRoomError, MoveError
from appliance.machine import disk_space, files
from appliance.store.move_sides import MovedRow
from appliance.store.moved_tables import ACCESS_VERSION, MOVED, MovedTable
from appliance.store.sqlite import closed, departure, migrations, paths, usage
from appliance.store.sqlite.database import connect, sqlite3, store_error

#: Rows and bytes of one transaction.
_ROWS: Final = 5000
_BYTES: Final = 32 * 2**20
_STAMP: Final = "%Y%m%dT%H%M%SZ"


class SqliteTarget:
    """The database that is to be at `path`; `floor` bytes stay free on its disk."""

    #: Every text of another engine's is one of SQLite's.
    changed: Final = 0

    def __init__(self, path: Path, floor: int) -> None:
        self._path = path
        self._floor = floor
        self._draft = path.with_name(f".{path.name}.move")
        self._filling: Any = None
        self.location = str(path)

    def held(self) -> str:
        """Return which table of a file that is there has rows; empty where it may be replaced."""
        if not paths.size(self._path):
            return ""
        with self._reading() as connection:
            if closed.mark_of(connection):
                return ""
            for table in MOVED:
                if table.name != ACCESS_VERSION and next(
                    departure.all_rows(connection, table), None
                ):
                    return f"the table {table.name} has rows"
        return ""

    def fitted(self, table: MovedTable, row: MovedRow) -> MovedRow:  # noqa: ARG002
        """Return the row as it is."""
        return row

    def write(self, table: MovedTable, rows: Iterable[MovedRow]) -> None:
        """Fill a table."""
        columns = ", ".join(f'"{name}"' for name in table.columns)
        marks = ", ".join("?" * len(table.columns))
        statement = f"INSERT INTO {table.name} ({columns}) VALUES ({marks})"  # noqa: S608
        with self._speaking():
            connection = self._filled()
            connection.execute(f"DELETE FROM {table.name}")  # noqa: S608  # what a new one has
            left = iter(rows)
            for first in left:
                connection.execute("BEGIN")
                connection.executemany(statement, _some(itertools.chain((first,), left)))
                connection.execute("COMMIT")
                self._check_room()

    def go_on_after(self, table: MovedTable, number: int) -> None:
        """Let the next row have a greater number."""
        with self._speaking():
            connection = self._filled()
            connection.execute("DELETE FROM sqlite_sequence WHERE name = ?", (table.name,))
            connection.execute("INSERT INTO sqlite_sequence VALUES (?, ?)", (table.name, number))

    def rows(self, table: MovedTable) -> Generator[MovedRow, None, None]:
        """Yield all rows in the order of the key."""
        with self._reading() as connection:
            yield from departure.all_rows(connection, table)

    def last_number(self, table: MovedTable) -> int:
        """Return the greatest number that a row ever had."""
        with self._reading() as connection:
            return departure.last_number(connection, table)

    def settle(self) -> None:
        """Write the whole file to its disk."""
        with self._speaking():
            connection, self._filling = self._filled(), None
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            connection.close()  # the last one to close it removes the log
            for suffix in (*paths.BESIDE, ".migrate"):
                paths.with_suffix(self._draft, suffix).unlink(missing_ok=True)
            files.sync(self._draft)

    def commit(self) -> None:
        """Put it in its place, which a file that was left makes free."""
        with self._speaking():
            if self._path.exists():
                stamp = datetime.now(UTC).strftime(_STAMP)
                self._empty_log()
                self._path.rename(paths.with_suffix(self._path, f".before-move-{stamp}"))
            for suffix in paths.BESIDE:
                paths.with_suffix(self._path, suffix).unlink(missing_ok=True)
            self._draft.rename(self._path)
            files.sync(self._path.parent)

    def close(self) -> None:
        """Remove what was not put in place."""
        if self._filling is not None:
            self._filling.close()
        with contextlib.suppress(OSError):
            paths.remove(self._draft)

    def _filled(self) -> Any:
        """Return the connection to the file that is filled; made by the first call."""
        if self._filling is None:
            paths.remove(self._draft)  # of a move that was broken off
            migrations.migrate(self._draft)
            self._draft.chmod(0o600)
            files.give_to_owner_of(self._path.parent, self._draft)
            self._filling = connect(self._draft, readonly=False)
            self._filling.execute("PRAGMA synchronous = OFF")  # `settle` syncs it
        return self._filling

    @contextmanager
    def _reading(self) -> Iterator[Any]:
        """Lend the file that is filled; before anything is, the one that is there."""
        with self._speaking():
            connection = self._filling or connect(self._path, readonly=True)
            try:
                yield connection
            finally:
                if connection is not self._filling:
                    connection.close()

    def _empty_log(self) -> None:
        connection = connect(self._path, readonly=False)
        try:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            connection.close()

    def _check_room(self) -> None:
        free = disk_space.disk(self._path.parent, "the database's disk", 0, 0).free
        if free < self._floor:
            raise BackupRoomError(
                f"no room for {self._path}: {free} bytes are left, {self._floor} must stay free; "
                "nothing was changed"
            )

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise store_error(error, self._path) from error
        except OSError as error:
            raise MoveError(f"{self._path}: can't be made: {error.strerror}") from error


def _some(rows: Iterator[MovedRow]) -> Iterator[MovedRow]:
    """Yield as many rows as a transaction takes; at least one, where there is one."""
    size = 0
    for row in itertools.islice(rows, _ROWS):
        yield row
        size += sum(len(value) for value in row if isinstance(value, str | bytes))
        if size > _BYTES:
            return


@contextmanager
def arriving(path: Path, floor: int) -> Iterator[SqliteTarget]:
    """Lend a database at `path` to be filled, which no process may use meanwhile.

    Raises InUseError where one does, MoveError where there can be none.
    """
    with usage.alone(path):
        target = SqliteTarget(path, floor)
        try:
            yield target
        finally:
            target.close()
