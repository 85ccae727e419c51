"""A copy of a test's PostgreSQL server: a standby that follows it, and can be held."""

from contextlib import contextmanager

import psycopg
from postgres import PostgresServer


class PostgresCopy(PostgresServer):
    """A standby of `primary`, in a folder of its own."""

    def __init__(self, primary):
        self._primary = primary
        self._is_running = False
        super().__init__()

    def _make(self):
        self._run("pg_basebackup", "-D", self._data, "-h", str(self._primary.folder), "-U",
                  "postgres", "-R", "-X", "stream", "-c", "fast", "--no-sync")  # fmt: skip

    def start(self):
        """Start the server, unless it runs."""
        if not self._is_running:
            super().start()
            self._is_running = True

    def stop(self, mode="fast"):
        """Stop the server, if it runs."""
        if self._is_running:
            super().stop(mode)
            self._is_running = False

    def url_of(self, url):
        """Return the URL of the copy of a database of the primary."""
        return url.replace(str(self._primary.folder), str(self.folder))

    @contextmanager
    def standing_still(self):
        """Show nothing new within the block."""
        self._do("SELECT pg_wal_replay_pause()")
        try:
            yield
        finally:
            self._do("SELECT pg_wal_replay_resume()")

    def _do(self, statement):
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement)
