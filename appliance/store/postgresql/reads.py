"""Connections on which PostgreSQL is read: one for each thread, to the primary or a copy."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
from psycopg.adapt import Dumper

from appliance.store.postgresql.connections import PostgresConnection, store_error
from appliance.store.postgresql.hosts import Hosts

#: Milliseconds that a statement of a short read takes at most. A server that does not answer
#: can't end it: so it is left after a second more.
READ_TIMEOUT_MS: Final = 10_000
READ_SECONDS: Final = READ_TIMEOUT_MS / 1000 + 1


class _SearchedText(Dumper):
    """Binds a text that is looked for: PostgreSQL has no NUL in a text, so it finds none."""

    def dump(self, obj: str) -> bytes:
        return obj.replace("\0", "\uffff").encode(errors="replace")


class PostgresReads:
    """A connection for each thread that reads; one that failed is closed, and made anew.

    So is one to a primary whose place another one has taken.
    """

    def __init__(self, hosts: Hosts) -> None:
        self.hosts = hosts
        self._local = threading.local()
        self._lock = threading.Lock()
        self._open: list[PostgresConnection] = []

    def close(self) -> None:
        """Close every thread's connection; no thread may be reading."""
        with self._lock:
            for connection in self._open:
                connection.close()
            self._open.clear()
            self._local = threading.local()

    @contextmanager
    def reading(self) -> Iterator[PostgresConnection]:
        """Lend this thread's connection to a short read. Raises StoreError."""
        try:
            yield self._get()
        except psycopg.Error as error:
            self._drop()
            raise store_error(error, self.hosts.url) from error

    def _get(self) -> PostgresConnection:
        connection: PostgresConnection | None = getattr(self._local, "connection", None)
        if connection is not None and not connection.driver.closed:
            if not self.hosts.is_old(connection):
                return connection
            self._drop()
        connection = self.hosts.connect(readonly=True)
        with self._lock:
            self._open.append(connection)
        self._local.connection = connection
        connection.driver.adapters.register_dumper(str, _SearchedText)
        connection.execute(f"SET statement_timeout = {READ_TIMEOUT_MS}")
        connection.driver.patience = READ_SECONDS
        return connection

    def _drop(self) -> None:
        connection: PostgresConnection | None = getattr(self._local, "connection", None)
        if connection is None:
            return
        self._local.connection = None
        with self._lock:
            if connection in self._open:
                self._open.remove(connection)
        connection.close()
