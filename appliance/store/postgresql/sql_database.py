"""The PostgreSQL database, as the store's common SQL sees it."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

import psycopg

from appliance.errors import OldPrimaryError
from appliance.store.base import Rest
from appliance.store.postgresql.connections import PostgresConnection, store_error
from appliance.store.postgresql.hosts import Hosts
from appliance.store.postgresql.patience import COMMIT_SECONDS, STATEMENT_SECONDS
from appliance.store.postgresql.reads import PostgresReads
from appliance.store.postgresql.where_sql import of_filter
from appliance.store.postgresql.work import working
from appliance.store.sql.database import SqlConnection, SqlWords, SqlWork

#: Bytes of a body that is looked through to see whether it is JSON; of a longer one its first
#: character counts.
_JSON_BYTES: Final = 64 * 2**10
#: Characters of a body's begin.
_START: Final = 200
#: Bytes of a body, as they are known without reading it.
_SIZE: Final = "coalesce(octet_length(body_bytes), octet_length(body))"
_NOW: Final = "appliance_now()"

WORDS: Final = SqlWords(
    matches="(:patterns IS NULL OR appliance_matches(topic, :patterns))",
    matched=(
        "appliance_matches({0}, "
        "CASE jsonb_typeof(appliance_json({1})) WHEN 'array' THEN {1} ELSE '[]' END)"
    ),
    body="body_bytes IS NULL, coalesce(body_bytes, convert_to(body, 'UTF8'))",
    body_bytes=_SIZE,
    body_pair="body, body_bytes",
    body_names="body, body_bytes",
    body_marks="?, ?",
    letter_body="body",
    now=_NOW,
    texts="SELECT json_array_elements_text({}::json)",
    numbers="SELECT json_array_elements_text({}::json)::bigint",
    is_not_over=(
        "NOT EXISTS (SELECT 1 FROM expirations AS over "  # noqa: S608  # ours
        f"WHERE over.seq = messages.seq AND over.expires_at <= {_NOW})"
    ),
    data_version="SELECT hashtext(pg_current_snapshot()::text)",
    last_seq="coalesce((SELECT last_seq FROM shards WHERE shard = 0), 0)",
    by_seq="messages",
    by_topic="messages",
    preview=(
        "CASE WHEN body IS NULL THEN 'binary' "
        f"WHEN octet_length(body) > {_JSON_BYTES} THEN "
        "CASE WHEN left(body, 1) IN ('{', '[') THEN 'json' ELSE 'text' END "
        "WHEN appliance_is_json(body) THEN 'json' ELSE 'text' END, "
        f"{_SIZE}, coalesce(substr(body_bytes, 1, {_START}), "
        f"convert_to(left(body, {_START}), 'UTF8'))"
    ),
    # psycopg takes all rows of an answer at once, so the bytes are bounded here; the bodies of the
    # rows that are left out are not read. One that is longer than allowed counts as the most.
    page=(
        "SELECT {columns} FROM (SELECT {table}.*, "
        "least({size}, :max_bytes) AS body_size, sum(least({size}, :max_bytes)) "
        "OVER (ORDER BY {order} ROWS UNBOUNDED PRECEDING) AS running_size "
        "FROM {source} WHERE {where} ORDER BY {order} LIMIT :limit) AS page "
        "WHERE running_size - body_size <= :max_bytes ORDER BY {order}"
    ),
    conditions=of_filter,
)

#: Those who wait for one another: a number of ours, and one that the name comes to.
_ALONE: Final = 0x61_70_70_6D
_WAIT: Final = "SELECT pg_advisory_xact_lock(?, hashtext(?))"
_BEGIN: Final = "BEGIN"
#: Both in one round trip.
_BEGIN_UNSYNCED: Final = "BEGIN; SET LOCAL synchronous_commit = 'off'"


#: Connections that are kept for the next writes.
_MOST_KEPT: Final = 2


@contextmanager
def transaction(connection: PostgresConnection, *, synced: bool, alone: str) -> Iterator[None]:
    """Commit where the block ends well; else closing the connection, or its caller, undoes it."""
    _begin(connection, synced=synced)
    with _committed(connection, synced=synced, alone=alone):
        yield


def _begin(connection: PostgresConnection, *, synced: bool) -> None:
    """Begin a transaction, on a server that must answer in time."""
    connection.driver.patience = COMMIT_SECONDS
    connection.driver.execute(_BEGIN if synced else _BEGIN_UNSYNCED)
    connection.driver.patience = STATEMENT_SECONDS


@contextmanager
def _committed(connection: PostgresConnection, *, synced: bool, alone: str) -> Iterator[None]:
    if alone:
        connection.execute(_WAIT, (_ALONE, alone))
    yield
    if synced:
        connection.driver.commit_surely()
    else:
        connection.execute("COMMIT")


class _KeptConnections:
    """Connections for writes, of which a few are kept for the next ones; used by any thread."""

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts
        self._lock = threading.Lock()
        self._idle: list[PostgresConnection] = []

    def begin(self, *, synced: bool) -> PostgresConnection:
        """Return a connection on which a transaction was begun. Raises StoreError.

        One that was ended while nobody used it is made anew.
        """
        while (connection := self._pop()) is not None:
            try:
                self._hosts.refuse_old(connection)
                _begin(connection, synced=synced)
            except (psycopg.Error, OldPrimaryError):
                connection.close()
            else:
                return connection
        connection = self._hosts.connect(readonly=False)
        try:
            _begin(connection, synced=synced)
        except psycopg.Error as error:
            connection.close()
            raise store_error(error, self._hosts.url) from error
        return connection

    def keep(self, connection: PostgresConnection) -> None:
        """Keep a connection whose transaction is over, unless there are enough."""
        with self._lock:
            if len(self._idle) < _MOST_KEPT:
                self._idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Close those that are kept."""
        while (connection := self._pop()) is not None:
            connection.close()

    def _pop(self) -> PostgresConnection | None:
        with self._lock:
            return self._idle.pop() if self._idle else None


class PostgresDatabase:
    """A database of these hosts: a connection to read for each thread, and some for writes."""

    words: Final = WORDS

    def __init__(self, connections: PostgresReads) -> None:
        self.hosts = connections.hosts
        self._connections = connections
        self._writes = _KeptConnections(self.hosts)

    def exists(self) -> bool:
        """Return that there is a database: only a connection would show."""
        return True

    def apart(self) -> "PostgresDatabase":
        """Return the same database, read where it is written, on connections of its own."""
        return PostgresDatabase(PostgresReads(self.hosts))

    def close(self) -> None:
        """Close the connections on which it is read, and those that are kept for writes.

        One that is in use is closed, or kept, after its use.
        """
        self._connections.close()
        self._writes.close()

    def reading(self) -> AbstractContextManager[SqlConnection]:
        """Lend this thread's connection to a short read."""
        return self._connections.reading()

    @contextmanager
    def snapshot(self) -> Iterator[PostgresConnection]:
        """Lend this thread's connection to a short read whose statements all see the same."""
        with self._connections.reading() as connection:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            try:
                yield connection
            finally:
                connection.execute("COMMIT")

    @contextmanager
    def writing(self, *, synced: bool = True, alone: str = "") -> Iterator[PostgresConnection]:
        """Lend a connection within a transaction, which is committed where the block ends well.

        Raises StoreError where the server, or a synchronous standby, does not answer in time.
        """
        connection = self._writes.begin(synced=synced)
        try:
            with _committed(connection, synced=synced, alone=alone):
                yield connection
        except psycopg.Error as error:
            connection.close()
            raise store_error(error, self.hosts.url) from error
        except BaseException:
            connection.close()  # what is not committed is undone
            raise
        self._writes.keep(connection)

    def working(self, stop: Rest) -> AbstractContextManager[SqlWork]:
        """Lend a connection for many short transactions; a long statement looks whether to stop."""
        return working(self.hosts, stop)
