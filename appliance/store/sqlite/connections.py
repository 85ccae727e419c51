"""Connections for reading a file, one for each thread, to the file that is there now."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from appliance.errors import StoreError
from appliance.store.sqlite import open_files, paths, where_sql
from appliance.store.sqlite.database import connect, sqlite3, store_error
from appliance.store.thread_connections import ThreadConnections

#: KiB of page cache for each connection. Each thread that reads has a connection, and the operating
#: system caches the file anyway.
_CACHE_KIB: Final = 2000


class FileConnection:
    """A connection to the file that is at `path` now. Raises StoreError.

    A restored backup is another file of the same name; an open connection would go on reading the
    old one. So would one whose write-ahead log was removed by another program.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file, self._log = self._look()
        self.connection = connect(path, readonly=True)
        try:
            self.connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            where_sql.add_functions(self.connection)
        except sqlite3.Error as error:
            self.close()
            raise store_error(error, path) from error

    def is_current(self) -> bool:
        """Whether the file and its log are those at the path. Raises StoreError for no file."""
        file, log = self._look()
        if self._log is None:  # SQLite makes it when it first reads
            self._log = log
        return file == self._file and log == self._log

    def is_of_file(self) -> bool:
        """Whether the file is the one at the path, whatever its log is."""
        return open_files.identity(self._path) == self._file

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def _look(self) -> tuple[tuple[int, int], tuple[int, int] | None]:
        """Return what tells the file at the path, and its log, from any other."""
        try:
            status = self._path.stat()
        except OSError as error:
            raise StoreError(f"{self._path}: {error.strerror}") from error
        return (status.st_dev, status.st_ino), open_files.identity(paths.wal(self._path))


class FileReads(ThreadConnections[FileConnection]):
    """A connection for each thread that reads the file at `path`."""

    def __init__(self, path: Path) -> None:
        super().__init__(partial(FileConnection, path), FileConnection.is_current)
        self._path = path

    @contextmanager
    def reading(self) -> Iterator[Any]:
        """Lend this thread's connection to a short read, whose errors become StoreError.

        A connection that failed is closed, and the next read opens a new one.
        """
        with self.lending() as lent:
            try:
                yield lent.connection
            except sqlite3.Error as error:
                self.leave(lent)
                raise store_error(error, self._path) from error
