"""Connections to PostgreSQL, all opened in the same way, and its errors as the store's.

`psycopg` is imported here and in the modules of this package only.
"""

import contextlib
import functools
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg.adapt import Dumper, Loader

from appliance.errors import (
    DamagedError,
    SlowReadError,
    StoreError,
    StoreFullError,
    StoreLockedError,
)
from appliance.store.postgresql.patience import PatientConnection

if TYPE_CHECKING:
    from appliance.store.postgresql.timelines import Timeline

#: What a connection has unless the URL says otherwise. A primary that is gone is left within
#: seconds; of several hosts, the one that takes writes is used.
_DEFAULTS: Final = {
    "connect_timeout": "2",
    "tcp_user_timeout": "3000",
    "keepalives_idle": "2",
    "keepalives_interval": "1",
    "keepalives_count": "3",
    "application_name": "appliance",
}
#: Milliseconds that a statement waits for another's lock: longer than any transaction of ours.
_LOCK_TIMEOUT_MS: Final = 5000

#: Seconds within which the server must answer that locks are given up.
_RELEASE_SECONDS: Final = 1.0

#: A quoted text or name, a comment, a cast, or a parameter of either kind.
_TOKENS: Final = re.compile(
    r"""'(?:[^']|'')*'|"[^"]*"|--[^\n]*|::|\?|:[a-z_][a-z0-9_]*|%""", re.IGNORECASE
)


class _Truth(Dumper):
    """Binds a bool as 0 or 1, as the common SQL has it."""

    def dump(self, obj: bool) -> bytes:
        return b"1" if obj else b"0"

    def quote(self, obj: bool) -> bytes:
        return self.dump(obj)


class _Number(Loader):
    """Reads a sum of whole numbers as one; PostgreSQL gives it a type without an end."""

    def load(self, data: Any) -> int | float:
        text = bytes(data)
        return float(text) if b"." in text else int(text)


class PostgresConnection:
    """A connection that runs the common SQL, whose parameters are SQLite's.

    Values are put into the statement by psycopg on this side, so that their types follow from
    where they stand.
    """

    def __init__(self, connection: PatientConnection) -> None:
        self.driver = connection
        #: The server's, where it was asked for.
        self.timeline: Timeline | None = None
        #: Its host and port.
        self.server = ("", 0)

    def execute(self, statement: str, values: Sequence[object] | Mapping[str, object] = ()) -> Any:
        """Run one statement; its cursor."""
        cursor: psycopg.ClientCursor[Any] = psycopg.ClientCursor(self.driver)
        return cursor.execute(translated(statement).encode(), values)

    def executemany(self, statement: str, values: Any) -> Any:
        """Run one statement with each of the values; its cursor."""
        cursor: psycopg.ClientCursor[Any] = psycopg.ClientCursor(self.driver)
        cursor.executemany(translated(statement).encode(), list(values))
        return cursor

    def close(self) -> None:
        """Close the connection; what is not committed is undone.

        The server notices when it comes to it: until then, the session has its locks.
        """
        self.driver.close()

    def release(self) -> None:
        """Close the connection, with its session's locks given up before.

        A server that does not answer soon gives them up when it notices, as by `close`.
        """
        driver = self.driver
        if driver.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
            driver.rest, driver.patience = None, _RELEASE_SECONDS
            with contextlib.suppress(psycopg.Error):  # the session is lost, and its locks with it
                driver.execute("SELECT pg_advisory_unlock_all()")
        driver.close()


@functools.lru_cache(maxsize=1024)
def translated(statement: str) -> str:
    """Return a statement with psycopg's parameters in place of SQLite's."""

    def token(found: re.Match[str]) -> str:
        text = found[0]
        if text == "?":
            return "%s"
        if text.startswith(":") and text != "::":
            return f"%({text[1:]})s"
        return text.replace("%", "%%")

    return _TOKENS.sub(token, statement)


def connect(url: str, *, readonly: bool, copies: bool = False) -> PostgresConnection:
    """Open a connection; the caller begins and ends transactions itself.

    Of several hosts it is the primary, unless any of the `copies` will do: these are late.

    A commit of a writer is on disk, here and at a synchronous standby, when it returns. Raises
    StoreError.
    """
    try:
        known = psycopg.conninfo.conninfo_to_dict(url)
        more: dict[str, Any] = {key: value for key, value in _DEFAULTS.items() if key not in known}
        if not copies:
            more["target_session_attrs"] = "primary" if readonly else "read-write"
        driver = PatientConnection.connect(url, autocommit=True, **more)
        driver.adapters.register_dumper(bool, _Truth)
        driver.adapters.register_loader("numeric", _Number)
        driver.execute(
            f"SET lock_timeout = {_LOCK_TIMEOUT_MS}; SET client_encoding = 'UTF8'; "
            f"SET default_transaction_read_only = {'on' if readonly else 'off'}"
        )
        if not readonly:
            driver.execute("SET synchronous_commit = 'on'")
    except psycopg.Error as error:
        raise store_error(error, url) from error
    return PostgresConnection(driver)


def location(url: str) -> str:
    """Return the hosts and the database of a URL, without its password."""
    try:
        known = psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.Error:
        return "postgresql"
    return f"postgresql://{known.get('host', '')}/{known.get('dbname', '')}"


def store_error(error: Exception, url: str) -> StoreError:
    """Return the StoreError that says what PostgreSQL's error says."""
    text = f"{location(url)}: {' '.join(str(error).split())}"
    state = getattr(error, "sqlstate", None) or ""
    if state in ("53100", "53200"):  # disk_full, out_of_memory
        return StoreFullError(f"{text}; make room on the disk of PostgreSQL")
    if state in ("55P03", "40P01", "40001"):  # lock_not_available, deadlock, serialization
        return StoreLockedError(text)
    if state == "57014":  # query_canceled
        return SlowReadError(f"{text}; ask for one topic, for less time, or for fewer rows")
    if state.startswith("XX") and state != "XX000":  # data_corrupted, index_corrupted
        return DamagedError(f"{text}; restore a backup of the database")
    return StoreError(text)
