"""Connections for reading a file, one for each thread, to the file that is there now."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from appliance.errors import StoreError
from appliance.store.sqlite import open_files, paths, where_sql
from appliance.store.sqlite.database import connect, sqlite3, store_error

#: KiB of page cache for each connection. Each thread that reads has a connection, and the operating
#: system caches the file anyway.
_CACHE_KIB: Final = 2000


class ThreadConnections:
    """A connection for each thread to the file at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._lock = threading.Lock()
        self._open: list[Any] = []

    def close(self) -> None:
        """Close every thread's connection; no thread may be reading."""
        with self._lock:
            for connection in self._open:
                connection.close()
            self._open.clear()
            self._local = threading.local()

    def get(self) -> Any:
        """Return this thread's connection to the file that is at the path now.

        A restored backup is another file of the same name; an open connection would go on reading
        the old one. So would one whose write-ahead log was removed by another program. Raises
        StoreError.
        """
        try:
            status = self._path.stat()
        except OSError as error:
            raise StoreError(f"{self._path}: {error.strerror}") from error
        identity = (status.st_dev, status.st_ino)
        log = open_files.identity(paths.wal(self._path))
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            if self._local.log is None:  # SQLite makes it when it first reads
                self._local.log = log
            if self._local.identity == identity and self._local.log == log:
                return connection
            self.drop(connection)
        connection = connect(self._path, readonly=True)
        with self._lock:
            self._open.append(connection)
        self._local.connection, self._local.identity, self._local.log = connection, identity, log
        try:
            connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            where_sql.add_functions(connection)
        except sqlite3.Error as error:
            self.drop(connection)
            raise store_error(error, self._path) from error
        return connection

    @contextmanager
    def reading(self) -> Iterator[Any]:
        """Lend this thread's connection to a short read, whose errors become StoreError.

        A connection that failed is closed, and the next call opens a new one.
        """
        connection = self.get()
        try:
            yield connection
        except sqlite3.Error as error:
            self.drop(connection)
            raise store_error(error, self._path) from error

    def is_current(self) -> bool:
        """Whether this thread's connection is open, and to the file that is at the path now."""
        return (
            getattr(self._local, "connection", None) is not None
            and open_files.identity(self._path) == self._local.identity
        )

    def drop(self, connection: Any) -> None:
        """Close this thread's connection, which failed."""
        self._local.connection = None
        with self._lock:
            if connection in self._open:
                self._open.remove(connection)
        connection.close()
