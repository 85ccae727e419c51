"""Looks at the file for commits. SQLite tells other processes of one only when they ask."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from appliance.store.sql.database import SqlConnection
from appliance.store.sqlite import open_files, paths
from appliance.store.sqlite.database import connect, sqlite3, store_error
from appliance.store.sqlite.sql_words import WORDS

_T = TypeVar("_T")


class SqliteLook:
    """A read-only connection to the file at `path`; used by one thread at a time."""

    words: Final = WORDS
    poll: Final = 0.002

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: Any = None
        self._opened = 0  # how often
        self._log: tuple[int, int] | None = None

    def ask(self, question: Callable[[SqlConnection], _T]) -> _T:
        """Put a question to the database, once it can be opened. Raises StoreError."""
        try:
            log = open_files.identity(paths.wal(self._path))
            if self._log is None:
                self._log = log
            if self._log != log:  # another program removed the one that is open here
                self.close()
            if self._connection is None:
                self._connection = connect(self._path, readonly=True)
                self._log = log
                self._opened += 1
            return question(self._connection)
        except sqlite3.Error as error:
            self.close()
            raise store_error(error, self._path) from error

    def version(self, connection: Any) -> object:
        """Return a number that changes when another connection has committed.

        It costs a few microseconds. That of another connection says nothing.
        """
        return self._opened, connection.execute("PRAGMA data_version").fetchone()[0]

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
