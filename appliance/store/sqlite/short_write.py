"""Short write transactions of the API, each on a connection of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from appliance.store.sqlite.database import connect, sqlite3, store_error

#: Milliseconds to wait for another process's write: longer than any transaction of ours takes,
#: short for a thread of the API.
_BUSY_TIMEOUT_MS: Final = 1500


@contextmanager
def writing(path: Path, *, synced: bool = True) -> Iterator[Any]:
    """Lend a connection within a transaction, which is committed where the block ends well.

    Without `synced` a power cut can undo it: for what nobody would miss, at the price of no fsync.
    Raises StoreError.
    """
    try:
        connection = connect(path, readonly=False)
        try:
            connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
            # A checkpoint can take long; the worker and the janitor make them.
            connection.execute("PRAGMA wal_autocheckpoint = 0")
            if not synced:
                connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
        finally:
            connection.close()  # what is not committed is undone
    except sqlite3.Error as error:
        raise store_error(error, path) from error
