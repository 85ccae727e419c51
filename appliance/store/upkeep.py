"""Keep the database's files small."""

from pathlib import Path
from typing import Final, NamedTuple

from appliance.store.connection import connect, sqlite3, store_error

#: Milliseconds to wait for writers and readers; the next turn tries again.
_PATIENCE_MS: Final = 200


class Checkpoint(NamedTuple):
    """What a checkpoint found: whether a reader or writer stood in its way, pages, pages moved."""

    busy: bool
    wal_pages: int
    moved_pages: int


def checkpoint(path: Path) -> Checkpoint:
    """Move the WAL into the database and cut it to nothing, if nobody is in the way.

    Raises StoreError.
    """
    try:
        connection = connect(path, readonly=False)
        try:
            connection.execute(f"PRAGMA busy_timeout = {_PATIENCE_MS}")
            row = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise store_error(error, path) from error
    return Checkpoint(bool(row[0]), row[1], row[2])
