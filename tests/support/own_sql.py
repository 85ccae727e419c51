"""Statements as someone else makes them, on the database of whichever engine."""

from contextlib import contextmanager

from appliance.store.postgresql import connections as postgresql
from appliance.store.sqlite import database as sqlite


@contextmanager
def linked(config):
    """Lend a connection of someone else's."""
    # With the library that has the file open already: two in one process end each other's locks.
    link = (
        postgresql.connect(config.database_url, readonly=False)
        if config.database_url
        else sqlite.connect(config.data / "appliance.db", readonly=False)
    )
    try:
        yield link
    finally:
        link.close()


def by_sql(config, statement, values=()):
    """Run one statement; return its rows. One that differs is given as a dict by engine."""
    engine = "postgresql" if config.database_url else "sqlite"
    if isinstance(statement, dict):
        statement = statement[engine]
    with linked(config) as link:
        cursor = link.execute(statement, values)
        return cursor.fetchall() if cursor.description else []
