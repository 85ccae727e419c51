"""Recounts the topics of a database, one recount at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg

from appliance.errors import InUseError
from appliance.store.base import Rest
from appliance.store.postgresql.connections import location, store_error
from appliance.store.postgresql.hosts import Hosts
from appliance.store.postgresql.patience import WorkStoppedError
from appliance.store.postgresql.sql_database import WORDS
from appliance.store.postgresql.work import PostgresWork
from appliance.store.sql.recounter import Recounter

#: A number of ours for an advisory lock.
_LOCK: Final = 0x61_70_70_72


class PostgresRecount:
    """Corrects the counters of the database of these hosts; used by one thread."""

    def __init__(self, hosts: Hosts, rest: Rest) -> None:
        self._hosts = hosts
        self._rest = rest
        self._recounter = Recounter(WORDS)

    def run(self, *, whole: bool = True) -> list[str]:
        """Correct the counters of every topic; return the names of those that were wrong.

        `whole` counts all rows, else only those that this object has not counted yet. `rest` is
        called between topics and while they are counted, and says whether to stop. A lock keeps
        two recounts from correcting the same difference. Raises InUseError where another one is
        under way, StoreError where the database can't be read or written.
        """
        corrected: list[str] = []
        books = _Books(self._hosts.connect(readonly=False).driver)
        books.driver.rest = self._rest
        try:
            if not books.execute(f"SELECT pg_try_advisory_lock({_LOCK})").fetchone()[0]:
                raise InUseError(f"{location(self._hosts.url)}: another recount is under way")
            self._recounter.run(books, self._rest, corrected, whole=whole)
        except WorkStoppedError:
            pass
        except psycopg.Error as error:
            raise store_error(error, self._hosts.url) from error
        finally:
            books.release()
        return corrected


class _Books(PostgresWork):
    """A connection that reads in snapshots too."""

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Have all statements of the block see the same."""
        self.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield
        self.execute("COMMIT")
