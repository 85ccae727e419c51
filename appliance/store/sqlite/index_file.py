"""The file of the full-text index, as the janitor writes it."""

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from appliance.errors import StoreError
from appliance.store.sqlite import paths
from appliance.store.sqlite.database import connect, sqlite3
from appliance.store.sqlite.search_index import (
    SCHEMA,
    IndexProgress,
    is_damage,
    read_progress,
)

#: Bytes, as the database has them.
_PAGE_SIZE: Final = 8192
#: Bytes to which the write-ahead log is cut.
_WAL_BYTES: Final = 8 * 2**20
#: KiB of page cache. Words are added at the end and merged in their order: with 16 MB a row took no
#: less CPU, and the janitor grew by up to 30 MB.
_CACHE_KIB: Final = 2000
#: Free pages that are kept in the file; and given back at once, at most.
_SPARE_PAGES: Final = 1024
_PAGES: Final = 256

#: A row as it is indexed: its seq, topic and text (None: none that is searched).
Entry = tuple[int, str, str | None]

_ADD: Final = "INSERT INTO words (rowid, topic, body) VALUES (?, ?, ?)"


class IndexFailedError(Exception):
    """The index could not be written. It never leaves the package."""

    def __init__(self, path: Path, error: Exception) -> None:
        super().__init__(f"{path}: {error}")
        self.is_damage = is_damage(error.__cause__ or error)


class IndexFile:
    """The open index at `path`, made where there is none. Every method raises IndexFailedError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._failing():
            if not paths.size(path):
                self._create()
            self._connection = connect(path, readonly=False)
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            self._connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
        self._identity = _identity(path)

    def is_there(self) -> bool:
        """Whether the file that is open is the one at the path."""
        return self._identity is not None and _identity(self._path) == self._identity

    def progress(self) -> IndexProgress | None:
        """Return which rows are indexed; None where the file is new, or has another form."""
        with self._failing():
            return read_progress(self._connection)

    def begin(self, progress: IndexProgress) -> IndexProgress:
        """Make the tables, and note where the index begins."""
        with self._writing():
            for statement in SCHEMA:
                self._connection.execute(statement)
            self._connection.execute(
                "INSERT INTO progress (one, identity, low, high, high_id) VALUES (1, ?, ?, ?, ?)",
                progress,
            )
        return progress

    def add(self, entries: Sequence[Entry], progress: IndexProgress) -> None:
        """Add rows in the order of their seq, and note how far the index goes now.

        After a power cut the last ones can be gone, and the note with them.
        """
        with self._writing():
            texts = (entry for entry in entries if entry[2] is not None)
            self._connection.executemany(_ADD, texts)
            self._connection.execute(
                "UPDATE progress SET identity = ?, low = ?, high = ?, high_id = ?", progress
            )

    def correct(self, seqs: Sequence[int], entries: Sequence[Entry]) -> None:
        """Take rows out of the index, and add those that are still there as they are now.

        They are on disk when this returns.
        """
        with self._failing():
            self._connection.execute("PRAGMA synchronous = FULL")
        try:
            with self._writing():
                rows = [(seq,) for seq in seqs]
                self._connection.executemany("DELETE FROM words WHERE rowid = ?", rows)
                self._connection.executemany(_ADD, (e for e in entries if e[2] is not None))
        finally:
            with self._failing():
                self._connection.execute("PRAGMA synchronous = NORMAL")
        self._shrink()

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

    def _create(self) -> None:
        connection = sqlite3.connect(self._path, isolation_level=None)
        try:
            connection.execute(f"PRAGMA page_size = {_PAGE_SIZE}")
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = WAL")
        finally:
            connection.close()
        with contextlib.suppress(OSError):
            self._path.chmod(0o600)

    def _shrink(self) -> None:
        """Give free pages back, except for some that will be used again soon."""
        with self._failing():
            free = self._connection.execute("PRAGMA freelist_count").fetchone()[0]
            if free > _SPARE_PAGES + _PAGES:
                self._connection.execute(f"PRAGMA incremental_vacuum({_PAGES})").fetchall()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._failing():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, StoreError, OSError) as error:
            raise IndexFailedError(self._path, error) from error


def remove(path: Path) -> None:
    """Remove an index; nothing is lost with it. Raises IndexFailedError."""
    files = [paths.with_suffix(path, suffix) for suffix in ("", *paths.BESIDE)]
    for file in (*files, paths.damaged_mark(path)):
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise IndexFailedError(path, error) from error


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
