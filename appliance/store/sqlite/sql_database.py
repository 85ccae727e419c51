"""The SQLite file, as the store's common SQL sees it."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

from appliance.store.base import Rest
from appliance.store.sql.database import SqlConnection, SqlWork
from appliance.store.sqlite.connections import FileReads
from appliance.store.sqlite.short_write import writing
from appliance.store.sqlite.sql_words import WORDS
from appliance.store.sqlite.work import working


class SqliteReads(Protocol):
    """What lends connections to read on."""

    def reading(self) -> AbstractContextManager[Any]:
        """Lend this thread's connection to a short read, whose errors become StoreError."""

    def close(self) -> None:
        """Close every thread's connection; one on which a thread reads, when it has read."""


class SqliteDatabase:
    """The file at `path`: read through `reads`, written on connections of their own."""

    words: Final = WORDS

    def __init__(self, path: Path, reads: SqliteReads) -> None:
        self.path = path
        self._reads = reads

    def exists(self) -> bool:
        """Whether there is a file."""
        return self.path.exists()

    def apart(self) -> "SqliteDatabase":
        """Return the same file, read on connections of its own."""
        return SqliteDatabase(self.path, FileReads(self.path))

    def close(self) -> None:
        """Close the connections on which it is read; one that is in use, after its use."""
        self._reads.close()

    def reading(self) -> AbstractContextManager[SqlConnection]:
        """Lend this thread's connection to a short read."""
        return self._reads.reading()

    @contextmanager
    def snapshot(self) -> Iterator[Any]:
        """Lend this thread's connection to a short read whose statements all see the same."""
        with self._reads.reading() as connection:
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.execute("COMMIT")

    def writing(
        self,
        *,
        synced: bool = True,
        alone: str = "",  # noqa: ARG002  # all writers wait for one another
    ) -> AbstractContextManager[SqlConnection]:
        """Lend a connection within a transaction, which is committed where the block ends well."""
        return writing(self.path, synced=synced)

    def working(self, stop: Rest) -> AbstractContextManager[SqlWork]:
        """Lend a connection for many short transactions; the block is left where `stop` says so."""
        return working(self.path, stop)
