"""Short write transactions one after another, of those who work in the background."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from appliance.store.sqlite import paths, refusal, where_sql
from appliance.store.sqlite.database import connect, sqlite3, store_error

#: Steps of SQLite's machine between two looks whether to stop: a few milliseconds.
_STEPS: Final = 100_000
#: Free pages that are left in the file for new messages: this part of the pages in use, and this
#: number at least.
_SPARE_PART: Final = 0.1
_SPARE_PAGES: Final = 1024
#: Bytes of WAL after which it is moved into the database between two transactions.
_WAL_BYTES: Final = 32 * 2**20


class SqliteWork:
    """A connection to the file at `path` that is kept for many transactions."""

    def __init__(self, path: Path, connection: Any) -> None:
        self._path = path
        self._connection = connection

    def execute(self, statement: str, values: Sequence[object] | Mapping[str, object] = ()) -> Any:
        """Run one statement."""
        return self._connection.execute(statement, values)

    def executemany(self, statement: str, values: Any) -> Any:
        """Run one statement with each of the values."""
        return self._connection.executemany(statement, values)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit where the block ends well, else undo it."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def is_refused(self, error: Exception, statement: str) -> bool:
        """Whether a trigger of someone's can have caused the error of a statement."""
        return (
            isinstance(error, sqlite3.Error)
            and refusal.can_be_of_a_trigger(self._connection, error)
            and not refusal.compile_error(self._connection, statement)
        )

    def tidy(self) -> None:
        """Move a large write-ahead log into the database, where that holds no writer."""
        if paths.size(paths.wal(self._path)) > _WAL_BYTES:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def spare_pages(self) -> int:
        """Return how many free pages could be given back to the file system."""
        pages, free = (
            self._connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count")
        )
        return int(free - max(_SPARE_PAGES, int((pages - free) * _SPARE_PART)))

    def free_pages(self, count: int) -> None:
        """Give free pages back, within a transaction."""
        self._connection.execute(f"PRAGMA incremental_vacuum({count})").fetchall()


@contextmanager
def working(path: Path, stop: Callable[[float], bool]) -> Iterator[SqliteWork]:
    """Lend a connection for many transactions; a long statement is ended where `stop` says so.

    Then the block is left. Raises StoreError.
    """
    stopped = False

    def look_up() -> int:
        nonlocal stopped
        stopped = stop(0)
        return int(stopped)

    try:
        connection = connect(path, readonly=False)
        try:
            # Checkpoints are made between transactions, where they hold no writer.
            connection.execute("PRAGMA wal_autocheckpoint = 0")
            where_sql.add_functions(connection)
            connection.set_progress_handler(look_up, _STEPS)
            yield SqliteWork(path, connection)
        finally:
            connection.close()
    except sqlite3.Error as error:
        if not stopped:
            raise store_error(error, path) from error
