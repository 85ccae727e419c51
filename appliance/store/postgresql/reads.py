"""Connections on which PostgreSQL is read: one for each thread, to the primary or a copy."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
from psycopg.adapt import Dumper

from appliance.store.postgresql.connections import PostgresConnection, store_error
from appliance.store.postgresql.hosts import Hosts
from appliance.store.thread_connections import ThreadConnections

#: Milliseconds that a statement of a short read takes at most. A server that does not answer
#: can't end it: so it is left after a second more.
READ_TIMEOUT_MS: Final = 10_000
READ_SECONDS: Final = READ_TIMEOUT_MS / 1000 + 1


class _SearchedText(Dumper):
    """Binds a text that is looked for: PostgreSQL has no NUL in a text, so it finds none."""

    def dump(self, obj: str) -> bytes:
        return obj.replace("\0", "\uffff").encode(errors="replace")


class PostgresReads(ThreadConnections[PostgresConnection]):
    """A connection for each thread that reads; one that failed is closed, and made anew.

    So is one to a primary whose place another one has taken.
    """

    def __init__(self, hosts: Hosts) -> None:
        super().__init__(self._open, self._is_usable)
        self.hosts = hosts

    @contextmanager
    def reading(self) -> Iterator[PostgresConnection]:
        """Lend this thread's connection to a short read. Raises StoreError."""
        with self.lending() as connection:
            try:
                yield connection
            except psycopg.Error as error:
                self.leave(connection)
                raise store_error(error, self.hosts.url) from error

    def _open(self) -> PostgresConnection:
        connection = self.hosts.connect(readonly=True)
        try:
            connection.driver.adapters.register_dumper(str, _SearchedText)
            connection.execute(f"SET statement_timeout = {READ_TIMEOUT_MS}")
        except psycopg.Error as error:
            connection.close()
            raise store_error(error, self.hosts.url) from error
        connection.driver.patience = READ_SECONDS
        return connection

    def _is_usable(self, connection: PostgresConnection) -> bool:
        return not connection.driver.closed and not self.hosts.is_old(connection)
