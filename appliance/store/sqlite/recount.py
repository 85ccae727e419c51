"""Recounts the topics of a database, one recount at a time, and ends where too much is written."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from appliance.errors import InUseError, StoreError
from appliance.machine import locks
from appliance.store.base import Rest
from appliance.store.sql.recounter import Recounter
from appliance.store.sqlite import paths
from appliance.store.sqlite.database import connect, sqlite3, store_error, transaction
from appliance.store.sqlite.sql_words import WORDS

#: Steps of SQLite's machine between two looks whether to stop: a few milliseconds.
_STEPS: Final = 100_000
#: Bytes by which the write-ahead log may grow while one topic is counted.
_WAL_GROWTH: Final = 256 * 2**20
#: Seconds to wait for another recount.
_PATIENCE: Final = 5.0


class SqliteRecount:
    """Corrects the counters of the database at `path`; used by one thread."""

    def __init__(self, path: Path, rest: Rest) -> None:
        self._path = path
        self._rest = rest
        self._recounter = Recounter(WORDS)

    def run(self, *, whole: bool = True) -> list[str]:
        """Correct the counters of every topic; return the names of those that were wrong.

        `whole` counts all rows, else only those that this object has not counted yet. `rest` is
        called now and then, and says whether to stop. A lock keeps two recounts from correcting
        the same difference. Raises InUseError where another one is under way, StoreError where the
        database can't be read or written, or where so much is written meanwhile that the
        write-ahead log would grow too large.
        """
        corrected: list[str] = []
        try:
            with locks.held(paths.with_suffix(self._path, ".migrate"), patience=_PATIENCE):
                books = _Books(self._path, self._rest)
                try:
                    self._recounter.run(books, self._rest, corrected, whole=whole)
                except sqlite3.Error as error:
                    if not books.stopped:
                        raise books.explained(error) from error
                finally:
                    books.close()
        except BlockingIOError as error:
            raise InUseError(
                f"{self._path}: another recount or a migration is under way"
            ) from error
        except OSError as error:
            raise StoreError(f"{self._path}: {error.strerror}") from error
        return corrected


class _Books:
    """A connection whose statements end where `rest` says so, or the write-ahead log grows."""

    def __init__(self, path: Path, rest: Rest) -> None:
        self.stopped = False
        self._path = path
        self._rest = rest
        self._too_much = False
        self._wal_at_first = paths.size(paths.wal(path))
        self._connection = connect(path, readonly=False)
        self._connection.set_progress_handler(self._look_up, _STEPS)

    def execute(self, statement: str, values: Sequence[object] | Mapping[str, object] = ()) -> Any:
        """Run one statement."""
        return self._connection.execute(statement, values)

    def executemany(self, statement: str, values: Any) -> Any:
        """Run one statement with each of the values."""
        return self._connection.executemany(statement, values)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Have all statements of the block see the same."""
        self._wal_at_first = paths.size(paths.wal(self._path))
        with transaction(self._connection, "BEGIN"):
            yield

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit where the block ends well, else undo it."""
        with transaction(self._connection):
            yield

    def explained(self, error: Exception) -> StoreError:
        """Return the StoreError that says what a statement failed of."""
        if self._too_much:
            return StoreError(
                f"{self._path}: so much is written that the write-ahead log grew by "
                f"{_WAL_GROWTH >> 20} MiB while one topic was counted"
            )
        return store_error(error, self._path)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _look_up(self) -> int:
        self.stopped = self._rest(0)
        grown = paths.size(paths.wal(self._path)) - self._wal_at_first
        self._too_much = grown > _WAL_GROWTH
        return int(self.stopped or self._too_much)
