"""Reads what is stored, from any number of threads, over connections that can only read."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

from appliance.store.filters import Found, MessageFilter
from appliance.store.rows import Engine
from appliance.store.sql.reader import StoredReader
from appliance.store.sql.search_range import SearchRange
from appliance.store.sqlite import finder, migrations, paths
from appliance.store.sqlite.connections import FileReads
from appliance.store.sqlite.database import sqlite3
from appliance.store.sqlite.search_index import SearchIndex
from appliance.store.sqlite.sql_words import WORDS
from appliance.store.sqlite.tables import check_tables


class SqliteReader(StoredReader):
    """Reads the database at `path`, with a connection for each thread.

    A connection that failed is closed, and the next call opens a new one.
    """

    engine: Final = Engine("sqlite", sqlite3.sqlite_version)

    def __init__(self, path: Path) -> None:
        super().__init__(WORDS)
        self._path = path
        self._connections = FileReads(path)
        self._index = SearchIndex(path)

    def close(self) -> None:
        """Close every thread's connection; one on which a thread reads, when it has read."""
        self._connections.close()
        self._index.close()

    def check(self) -> None:
        """Read one row, and see whether the tables are as storing needs them.

        Raises SchemaError unless the database has this program's schema, TablesError where its
        tables were changed so that nothing can be stored.
        """
        with self.reading() as connection:
            migrations.check(connection, self._path)
            check_tables(connection)
            connection.execute("SELECT seq FROM messages ORDER BY seq DESC LIMIT 1").fetchone()

    def _search(
        self,
        connection: Any,
        wanted: MessageFilter,
        bounds: SearchRange,
        newest: int,
        limit: int,
        max_bytes: int,
        *,
        is_quick: bool,
    ) -> Found:
        return finder.find(
            connection, self._index, wanted, bounds, newest, limit, max_bytes, is_quick=is_quick
        )

    def _database_bytes(self, connection: Any) -> int:  # noqa: ARG002  # a file is asked
        return paths.size(self._path)

    def details(self) -> Mapping[str, int | str]:
        """Return the bytes of the write-ahead log, and the file's pages.

        `free_pages` are inside the file and used again.
        """
        with self.reading() as connection:
            page_size, pages, free_pages = (
                connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("page_size", "page_count", "freelist_count")
            )
        return {
            "wal_bytes": paths.size(paths.wal(self._path)),
            "page_size": page_size,
            "pages": pages,
            "free_pages": free_pages,
        }

    def reading(self) -> AbstractContextManager[Any]:
        """Lend this thread's connection to a short read, whose errors become StoreError."""
        return self._connections.reading()
