"""Shows to every host that a process lives: a session in PostgreSQL holds locks in its name.

PostgreSQL gives the locks up when the session ends, and that ends with its process, with its host
or with the network between, within seconds. It must be a session: a pooler in between that lends
one connection to several (PgBouncer's `transaction`) breaks this.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Final

import psycopg

from appliance.errors import StoreError
from appliance.store.postgresql.connections import PostgresConnection, store_error
from appliance.store.postgresql.hosts import Hosts

#: What a name's number is made with, so that no lock of another program's is taken for ours.
_SEED: Final = 0x61_70_70_6D
_LOCK: Final = f"SELECT pg_advisory_lock(hashtextextended(?, {_SEED}))"
_TRY: Final = f"SELECT pg_try_advisory_lock(hashtextextended(?, {_SEED}))"
#: The lock is had, if nobody has it, until the end of the transaction.
_IS_FREE: Final = f"SELECT pg_try_advisory_xact_lock(hashtextextended(?, {_SEED}))"
#: A host that is gone without a word is noticed within seconds, and one that rests is left alone.
_WATCHED: Final = (
    "SET tcp_keepalives_idle = 2; SET tcp_keepalives_interval = 1; SET tcp_keepalives_count = 3; "
    "SET tcp_user_timeout = 5000; SET idle_session_timeout = 0"
)


class Presence:
    """A session of this process, opened when a name is first shown; used by one thread at a time.

    Its methods raise StoreError.
    """

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts
        self._session: PostgresConnection | None = None
        self._names: set[str] = set()

    def show(self, name: str) -> None:
        """Hold the lock of a name that is this process's alone; again where it was lost."""
        with self._lent() as session:
            if name not in self._names:
                session.execute(_LOCK, (name,))
                self._names.add(name)
            else:
                session.execute("SELECT 1")

    def claim(self, name: str) -> bool:
        """Hold the lock of a name that many want; return whether this process has it."""
        with self._lent() as session:
            if name in self._names:
                session.execute("SELECT 1")
            elif session.execute(_TRY, (name,)).fetchone()[0]:
                self._names.add(name)
            return name in self._names

    @contextmanager
    def holding(self, name: str) -> Iterator[PostgresConnection]:
        """Lend the session that holds the lock of a name that many want.

        A transaction on it is committed while the lock is held, or not at all.
        """
        if name not in self._names and not self.claim(name):
            raise StoreError(f"another process has the part of {name}; this one waits for its end")
        with self._lent() as session:
            if name not in self._names:  # the session was lost in between
                raise StoreError("the session in PostgreSQL was lost; it is made anew")
            yield session

    def absent(self, connection: PostgresConnection, names: Collection[str]) -> set[str]:
        """Return those of the names that no other process holds, within a transaction."""
        return {
            name
            for name in names
            if name in self._names or connection.execute(_IS_FREE, (name,)).fetchone()[0]
        }

    def close(self) -> None:
        """Give the locks up: another process can have them when this returns."""
        session, self._session = self._session, None
        self._names.clear()
        if session is not None:
            session.release()

    @contextmanager
    def _lent(self) -> Iterator[PostgresConnection]:
        try:
            if self._session is None or self._session.driver.closed:
                self._names.clear()
                self._session = self._hosts.connect(readonly=False)
                self._session.execute(_WATCHED)
            self._hosts.refuse_old(self._session)
            yield self._session
        except psycopg.Error as error:
            self._drop()
            raise store_error(error, self._hosts.url) from error
        except BaseException:
            self._drop()  # a transaction on it is undone
            raise

    def _drop(self) -> None:
        """Close a session that failed; the server gives up its locks when it notices."""
        session, self._session = self._session, None
        self._names.clear()
        if session is not None:
            session.close()
