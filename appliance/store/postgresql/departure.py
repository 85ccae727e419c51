"""A PostgreSQL database that is left for another one: read while nobody else writes to it."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from appliance.store.move_sides import MovedRow, MoveMark
from appliance.store.moved_tables import MovedTable
from appliance.store.postgresql import closed, migrations
from appliance.store.postgresql.connections import (
    PostgresConnection,
    connect,
    location,
    store_error,
)

#: What the connection has unless the URL says otherwise: a server that writes gigabytes can take
#: nothing for seconds, and is not gone.
_PATIENT: Final = {"tcp_user_timeout": "60000", "connect_timeout": "10"}
#: How long it waits for those who write, and what the server's own settings must not end.
_SETTINGS: Final = (
    "SET lock_timeout = '30s'; SET statement_timeout = 0; "
    "SET idle_in_transaction_session_timeout = 0"
)
#: Readers are let in. The order of storing comes first: who stores asks for it first, too.
LOCK: Final = f"LOCK TABLE {', '.join(closed.TABLES)} IN EXCLUSIVE MODE"
#: Attempts where another process waits for us, and we for it.
_ATTEMPTS: Final = 5
#: Seconds in which a commit of all rows is on disk, here and at a synchronous standby.
COMMIT_SECONDS: Final = 600.0
_TYPES: Final = """
    SELECT attname, atttypid::bigint FROM pg_attribute
    WHERE attrelid = to_regclass(?) AND attnum > 0 AND NOT attisdropped
"""


class PostgresSource:
    """The database at `url`, on a connection that holds the locks of those who write."""

    def __init__(self, url: str, connection: PostgresConnection, mark: MoveMark | None) -> None:
        self._url = url
        self._connection = connection
        self.location = location(url)
        self.mark = mark

    def count(self, table: MovedTable) -> int:
        """Return how many rows a table has."""
        with speaking_of(self._url):
            row = self._connection.execute(f"SELECT count(*) FROM {table.name}").fetchone()  # noqa: S608
            return int(row[0])

    def rows(self, table: MovedTable) -> Generator[MovedRow, None, None]:
        """Yield all rows in the order of the key."""
        with speaking_of(self._url):
            yield from all_rows(self._connection, table)

    def last_number(self, table: MovedTable) -> int:
        """Return the greatest number that a row ever had."""
        with speaking_of(self._url):
            return last_number(self._connection, table)

    def leave(self, mark: MoveMark) -> None:
        """Close it for good."""
        with speaking_of(self._url):
            closed.close(self._connection, mark)
            self._connection.driver.commit_surely(COMMIT_SECONDS)


def columns_of(table: MovedTable) -> list[str]:
    """Return the columns as they are here: two of them have a body that is a text or bytes."""
    names = list(table.columns)
    if table.is_mixed:
        names.insert(names.index("body") + 1, "body_bytes")
    return [f'"{name}"' for name in names]


def all_rows(connection: PostgresConnection, table: MovedTable) -> Iterator[MovedRow]:
    """Yield all rows of a table in the order of its key, a body as the one value that it is."""
    columns = columns_of(table)
    known = dict(connection.execute(_TYPES, (table.name,)).fetchall())
    key = ", ".join(f'"{name}"' for name in table.key)
    statement = f"COPY (SELECT {', '.join(columns)} FROM {table.name} ORDER BY {key}) TO STDOUT"  # noqa: S608
    with connection.driver.cursor() as cursor, cursor.copy(statement.encode()) as copy:
        copy.set_types([known[name.strip('"')] for name in columns])
        if not table.is_mixed:
            yield from copy.rows()
            return
        at = table.columns.index("body")
        for row in copy.rows():
            body = row[at + 1] if row[at] is None else row[at]
            yield (*row[:at], body, *row[at + 2 :])


def last_number(connection: PostgresConnection, table: MovedTable) -> int:
    """Return the greatest number that a row of the table ever had; 0: none."""
    key = table.key[0]
    if table.name == "messages":
        given = "SELECT last_seq FROM shards WHERE shard = 0"
    else:
        given = (
            "SELECT CASE WHEN is_called THEN last_value ELSE 0 END "  # noqa: S608  # ours
            f"FROM {sequence(connection, table)}"
        )
    row = connection.execute(
        f"SELECT greatest(({given}), (SELECT max({key}) FROM {table.name}), 0)"  # noqa: S608
    ).fetchone()
    return int(row[0])


def sequence(connection: PostgresConnection, table: MovedTable) -> str:
    """Return the name of the sequence that gives a table its numbers, as SQL has it."""
    row = connection.execute(
        "SELECT pg_get_serial_sequence(?, ?)", (table.name, table.key[0])
    ).fetchone()
    return str(row[0])


def opened(url: str) -> PostgresConnection:
    """Open a connection on which all rows go by, however long that takes. Raises StoreError."""
    with speaking_of(url):
        known = conninfo_to_dict(url)
        more = {name: value for name, value in _PATIENT.items() if name not in known}
    connection = connect(make_conninfo(url, **more), readonly=False)
    with speaking_of(url):
        connection.driver.execute(_SETTINGS)
    return connection


@contextmanager
def departing(url: str) -> Iterator[PostgresSource]:
    """Lend the database while nobody else writes to it, beside processes that use it.

    Raises SchemaError unless it has this program's schema, StoreLockedError where another program
    doesn't let go of it.
    """
    connection = opened(url)
    try:
        with speaking_of(url):
            migrations.check(connection, url)
            mark = closed.mark_of(connection)
            connection.execute("BEGIN")
            if mark is None:
                lock(connection)
            yield PostgresSource(url, connection, mark)
    finally:
        connection.close()  # what is not committed is undone


def lock(connection: PostgresConnection) -> None:
    """Keep everybody else from writing until the transaction ends, which has just begun."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            connection.driver.execute(LOCK.encode())
        except errors.DeadlockDetected:
            if attempt == _ATTEMPTS:
                raise
            connection.execute("ROLLBACK")
            connection.execute("BEGIN")
        else:
            return


def reopen(url: str) -> MoveMark | None:
    """Let a database that was left take rows again; return its mark, None where it has none."""
    connection = opened(url)
    try:
        with speaking_of(url):
            connection.execute("BEGIN")
            mark = closed.reopen(connection)
            connection.driver.commit_surely(COMMIT_SECONDS)
            return mark
    finally:
        connection.close()


@contextmanager
def speaking_of(url: str) -> Iterator[None]:
    """Raise an error of PostgreSQL's within the block as StoreError."""
    try:
        yield
    except psycopg.Error as error:
        raise store_error(error, url) from error
