"""Put a copy in the place of the database.

The copy is made ready beside the database (checked, copied, checked again, migrated), and takes
its place with one rename. What it replaces stays beside it under another name.
"""

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from appliance.errors import BackupError, StoreError
from appliance.machine import files
from appliance.model import timestamps
from appliance.store.sqlite import backup, migrations, usage
from appliance.store.sqlite.backup import Watch
from appliance.store.sqlite.connection import connect, sqlite3, store_error

#: What every database of ours has, whatever its age.
_TABLES: Final = {"messages", "topics", "dead_letters", "_sqlite_migrations"}
_MAGIC: Final = b"SQLite format 3\0"
#: What has one row for each message and is counted: what the replaced database alone has.
_COUNTED: Final = ("messages", "dead_letters")
_STAMP: Final = "%Y%m%dT%H%M%SZ"
#: What a database is made of, beside the file itself.
_BESIDE: Final = ("-wal", "-shm")


@dataclass(frozen=True)
class Ready:
    """A copy that is ready to take the database's place.

    `left_messages` and `left_dead_letters` are in the present database and not in the copy; None
    where there is no present database, or it can't be read: `trouble` says why then.
    """

    messages: int
    bytes: int
    migrated: list[str]
    last_at: str | None
    left_messages: int | None
    left_dead_letters: int | None
    trouble: str
    source: Path
    draft: Path
    database: Path

    def put_in_place(self) -> Path | None:
        """Replace the database; return where the replaced one is now (None: there was none).

        Raises BackupError; the database is then as it was.
        """
        stamp = datetime.now(UTC).strftime(_STAMP)
        kept = self.database.with_name(f"{self.database.name}.before-restore-{stamp}")
        try:
            present = self.database.exists()
            if present and not self.trouble:
                self._go_on_from_present()
                _empty_wal(self.database)
            self._record(kept.name if present else None)
            if not present:
                self._take_place()
                return None
            self._keep(kept)
            self._take_place()
        except sqlite3.Error as error:
            raise BackupError(f"{self.database} can't be replaced: {error}") from error
        except OSError as error:
            raise BackupError(f"{self.database} can't be replaced: {error.strerror}") from error
        return kept

    def _keep(self, kept: Path) -> None:
        """Give the present files their second name, then remove what must not meet the copy.

        A WAL that stayed beside another database would be taken for its own. Whenever the power
        fails, either the place or the second name has all of it.
        """
        os.link(self.database, kept)
        for suffix in _BESIDE:
            path = self.database.with_name(self.database.name + suffix)
            if path.exists():
                os.link(path, kept.with_name(kept.name + suffix))
        files.sync(kept.parent)
        for suffix in _BESIDE:
            self.database.with_name(self.database.name + suffix).unlink(missing_ok=True)
        files.sync(kept.parent)

    def _take_place(self) -> None:
        _synced(self.draft)
        self.draft.rename(self.database)
        files.sync(self.database.parent)

    def _record(self, replaced: str | None) -> None:
        """Let the restored database tell where what came since its backup is."""
        left = (self.left_messages, self.left_dead_letters)
        with _both(self.draft, None) as link:
            link.execute(
                "INSERT INTO restores VALUES (?, ?, ?, ?, ?)",
                (timestamps.now(), str(self.source), replaced, *left),
            )

    def _go_on_from_present(self) -> None:
        """Let the copy go on where the present database is.

        Numbers of rows are never given twice: a client that follows a topic would skip new
        messages, or take them for those it has seen. And the envelopes that came since the copy
        are accounted for: they are in the replaced database, not lost.
        """
        with _both(self.draft, self.database) as link:
            link.execute("BEGIN IMMEDIATE")
            link.execute(
                "UPDATE sqlite_sequence SET seq = max(seq, (SELECT p.seq "
                "FROM present.sqlite_sequence p WHERE p.name = sqlite_sequence.name)) "
                "WHERE name IN (SELECT name FROM present.sqlite_sequence)"
            )
            link.execute(
                "INSERT INTO sqlite_sequence SELECT name, seq FROM present.sqlite_sequence "
                "WHERE name NOT IN (SELECT name FROM sqlite_sequence)"
            )
            for table in ("sources", "restores"):
                if _columns(link, "main", table) == _columns(link, "present", table):
                    link.execute(
                        f"INSERT OR REPLACE INTO {table} SELECT * FROM present.{table}"  # noqa: S608
                    )
            link.execute("COMMIT")


@contextmanager
def prepared(source: Path, database: Path, floor: int, watch: Watch) -> Iterator[Ready]:
    """Make a copy of `source` ready to replace `database`, which nobody may use meanwhile.

    Raises InUseError where somebody does, BackupError where `source` is damaged, not ours or can't
    be read, SchemaError where it is newer than this program, BackupRoomError where there is no
    room for it. Nothing is left behind unless it was put in place.
    """
    with usage.alone(database):
        if database.exists() and source.exists() and source.samefile(database):
            raise BackupError(f"{source} is the database itself")
        _check(source, watch)
        draft = database.with_name(f".{database.name}.restore")
        try:
            _remove(draft)
            count = backup.fill(source, draft, floor, watch)
            migrated = migrations.migrate(draft)
            _use_wal(draft)
            yield _compare(source, draft, database, count, migrated)
        except OSError as error:
            raise BackupError(f"{draft.parent}: can't be written: {error.strerror}") from error
        finally:
            with contextlib.suppress(OSError):
                _remove(draft)


def _check(source: Path, watch: Watch) -> None:
    """Raise unless `source` is a sound database of ours that this program can read."""
    try:
        with source.open("rb") as file:
            magic = file.read(len(_MAGIC))
    except OSError as error:
        raise BackupError(f"{source} can't be read: {error.strerror}") from error
    if magic != _MAGIC:
        raise BackupError(f"{source} is not a SQLite database")
    try:
        link = connect(source, readonly=True)
    except StoreError as error:
        raise BackupError(f"{source} is not sound: {error}") from error
    try:
        found = {row[0] for row in link.execute("SELECT name FROM sqlite_master")}
        if not found >= _TABLES:
            raise BackupError(f"{source} is not a database of the Queue Appliance")
        migrations.refuse_newer(link, source)
    except sqlite3.Error as error:
        raise BackupError(f"{source} is not sound: {error}") from error
    finally:
        link.close()
    if not source.with_name(source.name + "-wal").exists():
        backup.check(source, watch)


def _use_wal(draft: Path) -> None:
    try:
        link = connect(draft, readonly=False)
        try:
            link.execute("PRAGMA journal_mode = WAL")
        finally:
            link.close()
    except sqlite3.Error as error:
        raise store_error(error, draft) from error


def _compare(source: Path, draft: Path, database: Path, count: int, migrated: list[str]) -> Ready:
    """Count what only the present database has."""
    left: dict[str, int | None] = dict.fromkeys(_COUNTED)
    trouble, last_at = "", None
    try:
        with _both(draft, database if database.exists() else None) as link:
            last_at = link.execute("SELECT max(last_at) FROM topics").fetchone()[0]
            if database.exists():
                for table in _COUNTED:
                    left[table] = link.execute(
                        f"SELECT count(*) FROM present.{table} p WHERE NOT EXISTS "  # noqa: S608
                        f"(SELECT 1 FROM main.{table} c WHERE c.id = p.id)"
                    ).fetchone()[0]
    except (sqlite3.Error, StoreError) as error:
        trouble = str(error)
    size = draft.stat().st_size
    counts = (left["messages"], left["dead_letters"])
    return Ready(count, size, migrated, last_at, *counts, trouble, source, draft, database)


@contextmanager
def _both(draft: Path, present: Path | None) -> Iterator[Any]:
    link = connect(draft, readonly=False)
    try:
        if present is not None:
            link.execute("ATTACH ? AS present", (f"{present.absolute().as_uri()}?mode=ro",))
        yield link
    finally:
        link.close()


def _columns(link: Any, schema: str, table: str) -> list[str] | None:
    rows = link.execute("SELECT name FROM pragma_table_info(?, ?)", (table, schema)).fetchall()
    return [row[0] for row in rows]


def _empty_wal(database: Path) -> None:
    link = connect(database, readonly=False)
    try:
        link.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        link.close()  # the last one to close it removes the WAL


def _synced(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(draft: Path) -> None:
    for suffix in ("", *_BESIDE, ".migrate"):
        draft.with_name(draft.name + suffix).unlink(missing_ok=True)
