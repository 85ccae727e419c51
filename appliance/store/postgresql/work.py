"""Short write transactions one after another, of those who work in the background."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from appliance.store.base import Rest
from appliance.store.postgresql import refusal
from appliance.store.postgresql.connections import PostgresConnection, store_error
from appliance.store.postgresql.hosts import Hosts
from appliance.store.postgresql.patience import WorkStoppedError


class PostgresWork(PostgresConnection):
    """A connection that is kept for many transactions."""

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit where the block ends well, else undo it."""
        self.execute("BEGIN")
        try:
            yield
            self.driver.commit_surely()
        except BaseException:
            if not self.driver.closed:
                self.execute("ROLLBACK")
            raise

    def is_refused(self, error: Exception, statement: str) -> bool:  # noqa: ARG002
        """Whether a trigger of someone's can have caused the error of a statement."""
        return isinstance(error, psycopg.Error) and refusal.is_of_values(error)

    def tidy(self) -> None:
        """Do nothing: PostgreSQL makes its checkpoints by itself."""

    def spare_pages(self) -> int:
        """Return 0: what is free is used again, or given back by autovacuum."""
        return 0

    def free_pages(self, count: int) -> None:
        """Do nothing."""


@contextmanager
def working(hosts: Hosts, rest: Rest) -> Iterator[PostgresWork]:
    """Lend a connection for many transactions. Raises StoreError.

    While the server works on a statement, `rest` is called; where it says to stop, the statement is
    cancelled, and the block is left.
    """
    work = PostgresWork(hosts.connect(readonly=False).driver)
    work.driver.rest = rest
    try:
        yield work
    except WorkStoppedError:
        pass
    except psycopg.Error as error:
        raise store_error(error, hosts.url) from error
    finally:
        work.close()
