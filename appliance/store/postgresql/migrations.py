"""The schema, and every change it ever had: the files of the folder `schema`, in their order.

Each file is one change, in a transaction of its own. A file is never edited once it is released.
The table `schema_changes` says which were applied.

A file whose name ends with `.compatible.sql` is one that programs can live with which do not know
it: they read and write as before. So hosts can be upgraded one after another. Whatever such a
program names must stay as it is: tables, columns, indexes, triggers, and what they mean to it.
"""

import functools
import time
from importlib import resources
from typing import Any, Final

import psycopg
import structlog

from appliance.errors import SchemaError
from appliance.store.postgresql import closed
from appliance.store.postgresql.connections import (
    PostgresConnection,
    connect,
    location,
    store_error,
)

#: Processes that migrate at once wait for one another: a number of ours for an advisory lock.
_LOCK: Final = 0x61_70_70_6C
_LIST: Final = """
    CREATE TABLE IF NOT EXISTS schema_changes (
        name text COLLATE "C" PRIMARY KEY,
        applied_at timestamptz NOT NULL DEFAULT now()
    )
"""
_IS_THERE: Final = "SELECT to_regclass('schema_changes') IS NOT NULL"
_COMPATIBLE: Final = ".compatible.sql"
#: Milliseconds that a change waits for a lock: whoever comes later waits behind it, the worker too.
#: Then others have their turn for some seconds, and it tries again, for minutes in all.
_LOCK_TIMEOUT_MS: Final = 2000
_PAUSE: Final = 3.0
_TRIES: Final = 60


_log: Any = structlog.get_logger(__name__)


@functools.cache
def changes() -> tuple[str, ...]:
    """Return the names of all changes in their order."""
    folder = resources.files(__package__) / "schema"
    return tuple(sorted(file.name for file in folder.iterdir() if file.name.endswith(".sql")))


def migrate(url: str) -> list[str]:
    """Bring the database at `url` to this program's schema; return the changes that were applied.

    Raises SchemaError for a database newer than this program, or whose texts are not UTF-8,
    MovedError for one that was left for another, StoreError for any other failure.
    """
    connection = connect(url, readonly=False)
    try:
        connection.driver.execute("SET lock_timeout = 0")
        connection.execute(f"SELECT pg_advisory_lock({_LOCK})")
        return _apply(connection, url)
    except psycopg.Error as error:
        raise store_error(error, url) from error
    finally:
        connection.close()  # the lock goes with it


def _apply(connection: PostgresConnection, url: str) -> list[str]:
    encoding = connection.execute("SHOW server_encoding").fetchone()[0]
    if encoding != "UTF8":
        raise SchemaError(
            f"{location(url)}: its encoding is {encoding}; make the database anew with "
            "ENCODING 'UTF8' TEMPLATE template0"
        )
    connection.execute(_LIST)
    there = _applied(connection)
    refuse_newer(there, url)
    closed.refuse(connection, url)
    names = [name for name in changes() if name not in there]
    connection.driver.execute(f"SET lock_timeout = {_LOCK_TIMEOUT_MS}".encode())
    for name in names:
        _apply_one(connection, name)
    return [name.removesuffix(".sql") for name in names]


def _apply_one(connection: PostgresConnection, name: str) -> None:
    script = (resources.files(__package__) / "schema" / name).read_text()
    for tries in range(1, _TRIES + 1):
        try:
            with connection.driver.transaction():
                connection.driver.execute(script.encode())
                connection.execute("INSERT INTO schema_changes (name) VALUES (?)", (name,))
        except psycopg.errors.LockNotAvailable:  # a long read of somebody's, or a dump
            if tries == _TRIES:
                raise
            _log.info("migration waits for a lock", change=name)
            time.sleep(_PAUSE)
        else:
            return


def _applied(connection: PostgresConnection) -> set[str]:
    return {row[0] for row in connection.execute("SELECT name FROM schema_changes")}


def refuse_newer(there: set[str], url: str) -> None:
    """Raise SchemaError where a newer program has made a change that this one can't live with."""
    newer = sorted(name for name in there - set(changes()) if not name.endswith(_COMPATIBLE))
    if newer:
        raise SchemaError(
            f"{location(url)}: its schema has {newer[0]}, which this program does not know; start "
            "the newer program again"
        )


def versions(connection: PostgresConnection) -> tuple[int, int]:
    """Return the number of changes that the database has, and that this program has.

    Those of a newer program that this one can live with do not count.
    """
    is_there = connection.execute(_IS_THERE).fetchone()[0]
    return len(_applied(connection) - later(connection)) if is_there else 0, len(changes())


def later(connection: PostgresConnection) -> set[str]:
    """Return the changes of a newer program that this one can live with."""
    newer = _applied(connection) - set(changes())
    return {name for name in newer if name.endswith(_COMPATIBLE)}


def check(connection: PostgresConnection, url: str) -> None:
    """Raise SchemaError unless the database has this program's schema."""
    is_there = connection.execute(_IS_THERE).fetchone()[0]
    there = _applied(connection) if is_there else set()
    refuse_newer(there, url)
    if lacking := [name for name in changes() if name not in there]:
        raise SchemaError(
            f"{location(url)}: its schema lacks {lacking[0].removesuffix('.sql')}; run appliance "
            "migrate"
        )
