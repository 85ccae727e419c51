"""Looks at PostgreSQL for commits, of workers on any host."""

from collections.abc import Callable
from typing import Final, TypeVar

import psycopg

from appliance.errors import OldPrimaryError
from appliance.store.postgresql.connections import PostgresConnection, store_error
from appliance.store.postgresql.hosts import Hosts
from appliance.store.postgresql.reads import READ_SECONDS, READ_TIMEOUT_MS
from appliance.store.postgresql.sql_database import WORDS
from appliance.store.sql.commits import POLL_TOLD
from appliance.store.sql.database import SqlConnection

_T = TypeVar("_T")


class PostgresLook:
    """A connection that only reads; used by one thread at a time.

    It is to the server that takes writes: what is stored is not on any other at once. A look is a
    round trip, so there are no more of them where the worker is on another host and can't tell.
    """

    words: Final = WORDS
    poll: Final = POLL_TOLD

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts
        self._connection: PostgresConnection | None = None

    def ask(self, question: Callable[[SqlConnection], _T]) -> _T:
        """Put a question to the database, once it can be opened. Raises StoreError."""
        try:
            if self._connection is not None:
                self._hosts.refuse_old(self._connection)
            else:
                self._connection = self._hosts.connect(readonly=False)
                self._connection.driver.patience = READ_SECONDS
                self._connection.execute(
                    f"SET default_transaction_read_only = on; "
                    f"SET statement_timeout = {READ_TIMEOUT_MS}"
                )
            return question(self._connection)
        except OldPrimaryError:
            self.close()
            raise
        except psycopg.Error as error:
            self.close()
            raise store_error(error, self._hosts.url) from error

    def version(self, connection: SqlConnection) -> object:  # noqa: ARG002
        """Return another one each time: to ask for it costs as much as a look."""
        return object()

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
