"""Checks of the database for `appliance doctor`."""

import contextlib
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from appliance.errors import SchemaError, StoreError
from appliance.store.base import HealthCheck
from appliance.store.sqlite import closed, index_check, integrity, migrations, paths, upkeep, usage
from appliance.store.sqlite.database import connect, sqlite3, store_error
from appliance.store.sqlite.tables import check_tables

#: The first version that is free of the WAL-reset race.
_SAFE: Final = (3, 51, 3)
#: Seconds for which a database is checked; a very large one takes longer.
_CHECK_SECONDS: Final = 60.0
#: Steps of SQLite's machine between two looks at the clock.
_STEPS: Final = 100_000
#: Bytes of a write-ahead log that could not be emptied: SQLite starts it over at 40 MB.
_LARGE_WAL: Final = 128 * 2**20


class SqliteHealth:
    """Checks the database at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def engine(self) -> HealthCheck:
        """Check that this SQLite can't damage a database."""
        version = str(sqlite3.sqlite_version)
        if is_safe():
            return HealthCheck("SQLite", "ok", version)
        return HealthCheck(
            "SQLite",
            "warning",
            f"{version} can damage a database when two connections meet in a rare way (WAL reset)",
            "install pysqlite3, which has 3.51.3 or later: pip install pysqlite3",
        )

    def database(self) -> Iterator[HealthCheck]:
        """Check the schema, the tables, the structure, the write-ahead log and the search index."""
        yield self._schema()
        yield from self._moved()
        yield self._tables()
        yield self._structure()
        yield self._wal()
        yield self._search_index()

    def newest(self) -> float | None:
        """Return when the message stored last was received, as Unix time; None if unknown."""
        usage.look_first(self._path)
        try:
            connection = connect(self._path, readonly=True)
        except StoreError:
            return None
        try:
            row: Any = connection.execute(
                "SELECT received_at FROM messages ORDER BY seq DESC LIMIT 1"
            ).fetchone()
            return datetime.fromisoformat(row[0]).timestamp() if row else None
        except (sqlite3.Error, ValueError):
            return None  # `database` reports why
        finally:
            connection.close()

    def files(self) -> list[Path]:
        """Return the database and the files that SQLite makes beside it."""
        return [paths.with_suffix(self._path, suffix) for suffix in ("", *paths.BESIDE)]

    def _schema(self) -> HealthCheck:
        try:
            return HealthCheck("schema", "ok", schema(self._path))
        except SchemaError as error:
            return HealthCheck(
                "schema", "error", str(error), "run the program version that the message names"
            )
        except StoreError as error:
            return HealthCheck(
                "schema",
                "error",
                str(error),
                "restore a backup: appliance restore (see the check `database`)",
            )

    def _moved(self) -> Iterator[HealthCheck]:
        """Say where the messages are, where they were moved; else nothing."""
        if not paths.size(self._path):
            return
        with contextlib.suppress(StoreError, sqlite3.Error):  # other checks say why
            connection = connect(self._path, readonly=True)
            try:
                mark = closed.mark_of(connection)
            finally:
                connection.close()
            if mark is not None:
                yield HealthCheck(
                    "move", "error", mark.words(str(self._path)), "start on the other database"
                )

    def _tables(self) -> HealthCheck:
        try:
            return HealthCheck("tables", "ok", tables(self._path))
        except StoreError as error:
            return HealthCheck(
                "tables",
                "error",
                str(error),
                "undo what was changed of the appliance's own tables; messages wait meanwhile, and "
                "`appliance verify` names what is gone or changed",
            )

    def _structure(self) -> HealthCheck:
        try:
            return HealthCheck("database", "ok", quick_check(self._path))
        except StoreError as error:
            advice = "stop the appliance, keep a copy of the folder, and restore a backup"
            return HealthCheck("database", "error", str(error), f"{advice}: appliance restore")

    def _search_index(self) -> HealthCheck:
        state = index_check.look(self._path)
        if not state.fault:
            return HealthCheck("search index", "ok", state.text)
        return HealthCheck(
            "search index",
            "warning",
            f"{state.text}: {state.fault}",
            "none: searches read the messages themselves, and the janitor makes a damaged one anew",
        )

    def _wal(self) -> HealthCheck:
        size = upkeep.wal_size(self._path)
        shown = f"{size / 2**20:,.1f} MiB"
        if size < _LARGE_WAL:
            return HealthCheck("write-ahead log", "ok", shown)
        readers = ", ".join(upkeep.readers(self._path)) or "none that can be seen"
        return HealthCheck(
            "write-ahead log",
            "warning",
            f"{shown}, not emptied: a program holds a read open; reading now: {readers}",
            "end that program, or its transaction",
        )


def is_safe() -> bool:
    """Whether this SQLite is free of the WAL-reset race."""
    return bool(sqlite3.sqlite_version_info >= _SAFE)


def schema(path: Path) -> str:
    """Return in words which schema the database has.

    Raises SchemaError where it is newer than this program, StoreError where it can't be read.
    """
    if not paths.size(path):
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


def tables(path: Path) -> str:
    """Return in words that messages can be stored as far as the tables are concerned.

    Raises TablesError where the tables were changed so that they take none, StoreError where they
    can't be read.
    """
    if not paths.size(path):
        return "there are none yet"
    connection = connect(path, readonly=True)
    try:
        present, wanted = migrations.versions(connection)
        if present != wanted:
            return "not looked at: the schema is another one"
        check_tables(connection)
    except sqlite3.Error as error:
        raise store_error(error, path) from error
    finally:
        connection.close()
    return "as storing needs them"


def quick_check(path: Path) -> str:
    """Return in words that the structure is sound. Raises StoreError where it is damaged."""
    if not paths.size(path):
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
        errors = integrity.check(connection, "quick_check", 1).errors
    except sqlite3.Error as error:
        if late:
            return f"nothing wrong in the first {_CHECK_SECONDS:.0f} s; appliance verify looks on"
        raise store_error(error, path) from error
    finally:
        connection.close()
    if errors:
        raise StoreError(f"{path} is damaged: {errors[0]}")
    return f"sound, checked in {time.monotonic() - began:.1f} s"
