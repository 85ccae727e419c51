"""Looks at the full-text index: how far it goes, and whether it has the rows that it should."""

import time
from typing import Any, Final

import psycopg

from appliance.store.postgresql import search_table
from appliance.store.postgresql.connections import store_error
from appliance.store.postgresql.hosts import Hosts
from appliance.store.sql.database import SqlConnection

#: Looks at an index that is being filled, and seconds between them.
_LOOKS: Final = 4
_BETWEEN: Final = 0.5
_SIZE: Final = "SELECT pg_total_relation_size('search_words')"
#: Messages that are counted as not indexed yet.
_MOST: Final = 1_000_000
_LEFT: Final = f"""
    SELECT count(*) FROM (
        SELECT 1 FROM messages WHERE seq > ? OR seq < ? LIMIT {_MOST}
    ) AS first
"""  # noqa: S608  # a number of ours
#: Messages whose words the index should have and does not; those that are to be indexed anew do
#: not count, and are searched as they are.
_LACKING: Final = """
    SELECT count(*) FROM messages WHERE seq BETWEEN :low AND :high
    AND NOT EXISTS (SELECT 1 FROM search_words WHERE search_words.seq = messages.seq)
    AND NOT EXISTS (SELECT 1 FROM search_changes WHERE search_changes.seq = messages.seq)
"""


def described(connection: SqlConnection) -> str:
    """Return in words how far the index goes."""
    progress = search_table.read_progress(connection)
    if progress is None:
        return "there is none"
    size = f"{connection.execute(_SIZE).fetchone()[0] / 2**20:,.1f} MiB"
    left = connection.execute(_LEFT, (progress.high, progress.low)).fetchone()[0]
    if not left:
        return f"{size}, complete"
    more = " or more" if left == _MOST else ""
    return f"{size}, {left:,}{more} messages are not in it yet"


def compare(connection: Any) -> str:
    """Return what is wrong with the index; empty where nothing is, or there is none.

    A search asks it for the rows of a span and looks at no other ones there: a message that is not
    in it is not found. Words of messages that are gone do no harm.
    """
    lacking = 0
    for number in range(_LOOKS):
        if number:
            time.sleep(_BETWEEN)
        with connection.driver.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            progress = search_table.read_progress(connection)
            if progress is None:
                return ""
            span = {"low": progress.low, "high": progress.high}
            lacking = connection.execute(_LACKING, span).fetchone()[0]
        if not lacking:
            return ""
    return f"messages that are not in it, and should be: {lacking:,}"


def repair(hosts: Hosts) -> bool:
    """Have the janitor make an index anew with which something is wrong; return whether it is so.

    Raises StoreError.
    """
    connection = hosts.connect(readonly=False)
    try:
        if not compare(connection):
            return False
        connection.execute("TRUNCATE search_words, search_changes, search_progress")
    except psycopg.Error as error:
        raise store_error(error, hosts.url) from error
    finally:
        connection.close()
    return True
