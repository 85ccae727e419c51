"""The appliance's processes with their messages in a PostgreSQL database."""

import psycopg
from harness import Stack
from psycopg.rows import dict_row

from appliance.drill.check import StoredRow
from appliance.store.postgresql.connections import translated


class _Row(dict):
    """A row by name, or by number."""

    def __getitem__(self, key):
        return list(self.values())[key] if isinstance(key, int) else super().__getitem__(key)


class PostgresStack(Stack):
    """Broker, API and workers on one data folder, and a database elsewhere."""

    #: URL of the database that is asked, where it is another one than the appliance has.
    asked = ""

    def query(self, sql, *values):
        """Ask the database, as any program may while the appliance runs."""
        url = self.asked or self.config.database_url
        with psycopg.connect(url, autocommit=True, row_factory=dict_row) as link:
            return [_Row(row) for row in link.execute(translated(sql).encode(), values)]

    def check_sound(self):
        """Do nothing: its pages are PostgreSQL's to check."""

    def stored_rows(self, topics):
        """Return the rows of these topics, in the order of storing."""
        found = self.query(
            "SELECT topic, id, body, body_bytes FROM messages WHERE topic = ANY(?) ORDER BY seq",
            list(topics),
        )
        return [
            StoredRow(row["topic"], row["id"], row["body"] if row[3] is None else row[3])
            for row in found
        ]
