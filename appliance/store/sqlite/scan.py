"""Every row of a database that nobody writes to, for checks of the whole."""

from collections.abc import Iterator
from pathlib import Path

from appliance.store.sqlite.connection import connect, sqlite3, store_error


def rows(path: Path) -> Iterator[tuple[str, str, str | bytes]]:
    """Yield topic, id and body of every stored message, in the order of storing.

    One read from beginning to end: beside a writer it would keep the write-ahead log from being
    emptied. Raises StoreError.
    """
    connection = connect(path, readonly=True)
    try:
        yield from connection.execute("SELECT topic, id, body FROM messages ORDER BY seq")
    except sqlite3.Error as error:
        raise store_error(error, path) from error
    finally:
        connection.close()
