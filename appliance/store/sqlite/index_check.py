"""Looks at the full-text index: how far it goes, and whether it has the rows that it should."""

import time
from pathlib import Path
from typing import Any, Final, NamedTuple

from appliance.errors import StoreError
from appliance.store.sqlite import paths, search_index
from appliance.store.sqlite.database import connect, sqlite3
from appliance.store.sqlite.search_index import IndexProgress

#: Looks at an index and a database that are both in use, and seconds between them.
_LOOKS: Final = 4
_BETWEEN: Final = 0.5
_EXPECTED: Final = """
    SELECT count(*) FROM messages WHERE seq BETWEEN ? AND ? AND typeof(body) = 'text'
"""
_PENDING: Final = "SELECT count(DISTINCT seq) FROM search_changes WHERE seq BETWEEN ? AND ?"


class IndexState(NamedTuple):
    """The index in words; `fault` is empty where nothing is wrong with it."""

    text: str
    fault: str


def look(database: Path) -> IndexState:
    """Return how far the index of a database goes; takes a moment."""
    path = paths.search_index(database)
    if not paths.size(path):
        return IndexState("there is none", "")
    try:
        with_database = connect(database, readonly=True)
        try:
            index = connect(path, readonly=True)
            try:
                return IndexState(_described(path, index, with_database), "")
            finally:
                index.close()
        finally:
            with_database.close()
    except (sqlite3.Error, StoreError) as error:
        return IndexState("can't be read", str(error))


def compare(database: Path, connection: Any) -> str:
    """Return what is wrong with the index of a database; empty where nothing is, or there is none.

    Both can be in use meanwhile.
    """
    path = paths.search_index(database)
    if not paths.size(path):
        return ""
    try:
        index = connect(path, readonly=True)
        try:
            errors = index.execute("PRAGMA quick_check(1)").fetchone()[0]
            if errors != "ok":
                return str(errors)
            return _difference(index, connection)
        finally:
            index.close()
    except (sqlite3.Error, StoreError) as error:
        return str(error)


def _difference(index: Any, database: Any) -> str:
    """Compare the numbers of rows; one that differs while the janitor works is looked at again."""
    fault = ""
    for look_number in range(_LOOKS):
        if look_number:
            time.sleep(_BETWEEN)
        index.execute("BEGIN")
        progress = search_index.read_progress(index)
        has = index.execute("SELECT count(*) FROM words_docsize").fetchone()[0]
        index.execute("ROLLBACK")
        if progress is None or not search_index.fits(progress, database):
            return ""  # the janitor makes it anew
        span = (progress.low, progress.high)
        should = database.execute(_EXPECTED, span).fetchone()[0]
        pending = database.execute(_PENDING, span).fetchone()[0]
        if abs(has - should) <= pending:
            return ""
        fault = f"it has {has:,} messages, and should have {should:,}"
    return fault


def _described(path: Path, index: Any, database: Any) -> str:
    progress = search_index.read_progress(index)
    size = f"{paths.size(path) / 2**20:,.1f} MiB"
    if progress is None or not search_index.fits(progress, database):
        return f"{size}, of another database; the janitor makes it anew"
    left = _left(progress, database)
    return f"{size}, complete" if not left else f"{size}, {left:,} messages are not in it yet"


def _left(progress: IndexProgress, database: Any) -> int:
    query = "SELECT count(*) FROM messages WHERE seq > ? OR seq < ?"
    return int(database.execute(query, (progress.high, progress.low)).fetchone()[0])
