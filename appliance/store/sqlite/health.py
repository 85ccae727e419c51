"""What a look at the database tells of its health."""

import time
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from appliance.errors import StoreError
from appliance.store.sqlite import migrations
from appliance.store.sqlite.connection import connect, sqlite3, store_error

#: The first version that is free of the WAL-reset race.
_SAFE: Final = (3, 51, 3)
#: Seconds for which a database is looked through; a very large one takes longer.
_CHECK_SECONDS: Final = 60.0
#: Steps of SQLite's machine between two looks at the clock.
_STEPS: Final = 100_000


def version() -> str:
    """Return the version of the SQLite in use."""
    return str(sqlite3.sqlite_version)


def is_safe() -> bool:
    """Whether that version is free of the WAL-reset race."""
    return bool(sqlite3.sqlite_version_info >= _SAFE)


def schema(path: Path) -> str:
    """Return in words which schema the database has.

    Raises SchemaError where it is newer than this program, StoreError where it can't be read.
    """
    if not path.exists() or not path.stat().st_size:
        return "there is no database yet"
    connection = connect(path, readonly=True)
    try:
        migrations.refuse_newer(connection, path)
        number = connection.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.Error as error:
        raise store_error(error, path) from error
    finally:
        connection.close()
    return f"version {number}"


def quick_check(path: Path) -> str:
    """Return in words how the database's structure is. Raises StoreError where it is damaged."""
    if not path.exists() or not path.stat().st_size:
        return "there is none yet"
    began = time.monotonic()
    late = False

    def look() -> int:
        nonlocal late
        late = time.monotonic() - began > _CHECK_SECONDS
        return int(late)

    connection = connect(path, readonly=True)
    try:
        connection.set_progress_handler(look, _STEPS)
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.Error as error:
        if late:
            return f"nothing wrong in the first {_CHECK_SECONDS:.0f} s; appliance verify looks on"
        raise store_error(error, path) from error
    finally:
        connection.close()
    if found != "ok":
        raise StoreError(f"{path} is damaged: {found}")
    return f"sound, checked in {time.monotonic() - began:.1f} s"


def newest(path: Path) -> float | None:
    """Return when the message that was stored last was received, in seconds since 1970."""
    try:
        connection = connect(path, readonly=True)
    except StoreError:
        return None
    try:
        row: Any = connection.execute(
            "SELECT received_at FROM messages ORDER BY seq DESC LIMIT 1"
        ).fetchone()
        return datetime.fromisoformat(row[0]).timestamp() if row else None
    except (sqlite3.Error, ValueError):
        return None  # the check of the database says more
    finally:
        connection.close()
