"""Reads messages stored in PostgreSQL, from any number of threads."""

import contextlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from appliance.errors import StoreError
from appliance.store.filters import Found, MessageFilter
from appliance.store.postgresql import finder, migrations, standbys
from appliance.store.postgresql.connections import PostgresConnection, location
from appliance.store.postgresql.reads import PostgresReads
from appliance.store.postgresql.replicas import ReplicaConnections
from appliance.store.postgresql.sql_database import WORDS
from appliance.store.rows import Engine
from appliance.store.sql.reader import StoredReader
from appliance.store.sql.search_range import SearchRange

_DETAILS = """
    SELECT pg_database_size(current_database()), pg_total_relation_size('messages'),
    pg_total_relation_size('search_words'), pg_is_in_recovery()
"""


class PostgresReader(StoredReader):
    """Reads the database with a connection for each thread, and copies of it at the URL `copies`.

    Without `copies` everything is read where it is written. `wanted` is how many synchronous
    standbys must have each message.
    """

    def __init__(self, connections: PostgresReads, copies: str = "", wanted: int = 0) -> None:
        super().__init__(WORDS)
        self._wanted = wanted
        self._version = ""
        self._connections = connections
        self._copies = ReplicaConnections(copies, connections) if copies else None

    @property
    def engine(self) -> Engine:
        """Name and version of the database program; while it can't be asked, no version."""
        if not self._version:
            with contextlib.suppress(StoreError), self._connections.reading() as connection:
                version = connection.execute("SHOW server_version").fetchone()[0]
                self._version = str(version).partition(" ")[0]
        return Engine("postgresql", self._version or "unknown")

    def close(self) -> None:
        """Close every thread's connection; one on which a thread reads, when it has read."""
        self._connections.close()
        if self._copies is not None:
            self._copies.close()

    def check(self) -> None:
        """Read one row, and see whether the tables are as storing needs them.

        Raises SchemaError unless the database has this program's schema, OldPrimaryError for one
        whose place another one has taken, FewCopiesError where fewer standbys than wanted have
        what is stored.
        """
        hosts = self._connections.hosts
        with self._connections.reading() as connection:
            hosts.refuse_old(connection)
            migrations.check(connection, hosts.url)
            connection.execute("SELECT seq FROM messages ORDER BY seq DESC LIMIT 1").fetchone()
            standbys.require(connection, self._wanted, location(hosts.url))

    def reading(self) -> AbstractContextManager[PostgresConnection]:
        """Lend this thread's connection to a short read, whose errors become StoreError."""
        return (self._copies or self._connections).reading()

    def details(self) -> Mapping[str, int | str]:
        """Return bytes of the messages with their indexes, and of the full-text index; copies."""
        with self.reading() as connection:
            database, messages, words, is_copy = connection.execute(_DETAILS).fetchone()
        with self._connections.reading() as connection:
            copies = standbys.look(connection).copies
        return {
            "database_bytes": database,
            "messages_bytes": messages,
            "search_index_bytes": words,
            "read_from": "copy" if is_copy else "primary",
            "synchronous_copies": copies,
        }

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
        return finder.find(connection, wanted, bounds, newest, limit, max_bytes, is_quick=is_quick)

    def _database_bytes(self, connection: Any) -> int:
        return int(connection.execute("SELECT pg_database_size(current_database())").fetchone()[0])
