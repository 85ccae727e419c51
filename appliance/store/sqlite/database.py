"""Connections to the database, all opened in the same way.

`sqlite3` is the module that sqlite-utils uses: pysqlite3 where it is installed, whose SQLite is
free of the WAL-reset race (fixed in 3.51.3), and Python's own module otherwise. The choice is made
here once more because sqlite-utils itself would cost 4 MB in every process.
"""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from appliance.errors import DamagedError, StoreError, StoreFullError, StoreLockedError
from appliance.store.sqlite import paths, wal_index

#: pysqlite3 and the standard module have the same interface; only one of them is typed.
try:
    sqlite3: Any = importlib.import_module("pysqlite3")
except ImportError:
    sqlite3 = importlib.import_module("sqlite3")

#: How SQLite's names of errors begin that say that the file is damaged.
_DAMAGE: Final = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
#: Milliseconds to wait for another process's write: longer than any transaction of ours, shorter
#: than a person or a stop would wait.
_BUSY_TIMEOUT_MS: Final = 5000


def connect(path: Path, *, readonly: bool, immutable: bool = False) -> Any:
    """Open the database at `path`; the caller begins and ends transactions itself.

    A reader opens the file with `mode=ro` and can't create it. A writer's commit is on disk when it
    returns (`synchronous=FULL`). `immutable` is for a file that no other process opens: SQLite then
    makes no files beside it.

    Raises StoreError where the file can't be opened, or must not be written to.
    """
    try:
        is_cut = not readonly and wal_index.missing(path) is not None
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
    if is_cut:
        raise StoreError(
            f"{paths.wal(path)} was cut short or removed by another program; the worker goes on "
            "with what is left, and so does a restart of the appliance"
        )
    mode = ("ro" if readonly else "rw") + ("&immutable=1" if immutable else "")
    try:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}",
            uri=True,
            isolation_level=None,
            timeout=_BUSY_TIMEOUT_MS / 1000,
            check_same_thread=False,
        )
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA cache_size = -16000")
    except sqlite3.Error as error:
        raise store_error(error, path) from error
    return connection


@contextmanager
def transaction(connection: Any, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
    """Commit what the block does, or roll it back where the block raises."""
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def store_error(error: Exception, path: Path) -> StoreError:
    """Return the StoreError that says what SQLite's error says."""
    text = f"{path}: {error}"
    if getattr(error, "sqlite_errorname", "").startswith("SQLITE_FULL"):
        return StoreFullError(f"{text}; make room on its disk")
    if getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY"):
        return StoreLockedError(text)
    if getattr(error, "sqlite_errorname", "").startswith(_DAMAGE):
        return DamagedError(
            f"{text}; appliance backup --rescue copies all that can be read, and appliance restore "
            "puts that copy, or a backup, in its place"
        )
    return StoreError(text)
