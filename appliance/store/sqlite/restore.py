"""Restores: a backup takes the place of the database.

The backup is prepared beside the database (checked, copied, checked again, migrated), and takes its
place with one rename. The replaced database stays beside it under another name.
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
from appliance.store.base import Progress
from appliance.store.sqlite import backup, migrations, paths, refusal, usage
from appliance.store.sqlite.database import connect, sqlite3, store_error

#: Tables that every database of ours has, whatever its age.
_TABLES: Final = {"messages", "topics", "dead_letters", "_sqlite_migrations"}
_MAGIC: Final = b"SQLite format 3\0"
#: Tables of which the rows are counted that only the replaced database has.
_COUNTED: Final = ("messages", "dead_letters")
_STAMP: Final = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True)
class PreparedCopy:
    """A copy of a backup that is ready to take the database's place."""

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
        replaced = paths.with_suffix(self.database, f".before-restore-{stamp}")
        try:
            present = self.database.exists()
            if present and not self.trouble:
                try:
                    self._go_on_from_present()
                    _empty_wal(self.database)
                except sqlite3.DatabaseError as error:
                    # A page may be damaged that the comparison did not read.
                    if not refusal.is_of_damage(error):
                        raise
            self._record(replaced.name if present else None)
            if not present:
                self._take_place()
                return None
            self._keep_present(replaced)
            self._take_place()
        except sqlite3.Error as error:
            raise BackupError(f"{self.database} can't be replaced: {error}") from error
        except OSError as error:
            raise BackupError(f"{self.database} can't be replaced: {error.strerror}") from error
        return replaced

    def _keep_present(self, replaced: Path) -> None:
        """Give the present files their second name, then remove those that must not meet the copy.

        SQLite would take a WAL that stayed beside another database for that one's. Whenever the
        power fails, the complete database is at its place or under its second name.
        """
        os.link(self.database, replaced)
        for suffix in paths.BESIDE:
            path = paths.with_suffix(self.database, suffix)
            if path.exists():
                os.link(path, paths.with_suffix(replaced, suffix))
        files.sync(replaced.parent)
        for suffix in paths.BESIDE:
            paths.with_suffix(self.database, suffix).unlink(missing_ok=True)
        files.sync(replaced.parent)

    def _take_place(self) -> None:
        files.sync(self.draft)
        self.draft.rename(self.database)
        files.sync(self.database.parent)

    def _record(self, replaced: str | None) -> None:
        """Note in the restored database where the messages stored since its backup are."""
        left = (self.left_messages, self.left_dead_letters)
        with _both(self.draft, None) as link:
            link.execute(
                "INSERT INTO restores VALUES (?, ?, ?, ?, ?)",
                (timestamps.now(), str(self.source), replaced, *left),
            )
            # The full-text index is of the replaced database; the janitor makes another one.
            link.execute("UPDATE search_identity SET identity = hex(randomblob(16))")
            link.execute("DELETE FROM search_changes")

    def _go_on_from_present(self) -> None:
        """Let the copy continue the row numbers and the ledger of the present database.

        A row number is never used twice: a client that follows a topic would skip new messages, or
        take them for messages it has seen. And the envelopes stored since the backup are accounted
        for: they are in the replaced database, not lost.
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
def prepared(
    source: Path, database: Path, floor: int, progress: Progress
) -> Iterator[PreparedCopy]:
    """Prepare a copy of `source` to replace `database`, which no process may use meanwhile.

    `floor` bytes must stay free. Nothing is left behind unless the copy was put in place.

    Raises InUseError where a process uses the database, BackupError where `source` is damaged, not
    ours or can't be read, SchemaError where it is newer than this program, BackupRoomError where
    there is no room for it.
    """
    with usage.alone(database):
        if database.exists() and source.exists() and source.samefile(database):
            raise BackupError(f"{source} is the database itself")
        _check(source, progress)
        draft = database.with_name(f".{database.name}.restore")
        try:
            paths.remove(draft)
            count = backup.fill(source, draft, floor, progress)
            migrated = migrations.migrate(draft)
            _use_wal(draft)
            yield _compare(source, draft, database, count, migrated)
        except OSError as error:
            raise BackupError(f"{draft.parent}: can't be written: {error.strerror}") from error
        finally:
            with contextlib.suppress(OSError):
                paths.remove(draft)


def _check(source: Path, progress: Progress) -> None:
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
        tables = {row[0] for row in link.execute("SELECT name FROM sqlite_master")}
        if not tables >= _TABLES:
            raise BackupError(f"{source} is not a database of the Queue Appliance")
        migrations.refuse_newer(link, source)
    except sqlite3.Error as error:
        raise BackupError(f"{source} is not sound: {error}") from error
    finally:
        link.close()
    if not paths.wal(source).exists():
        backup.check(source, progress)


def _use_wal(draft: Path) -> None:
    try:
        link = connect(draft, readonly=False)
        try:
            link.execute("PRAGMA journal_mode = WAL")
        finally:
            link.close()
    except sqlite3.Error as error:
        raise store_error(error, draft) from error


def _compare(
    source: Path, draft: Path, database: Path, count: int, migrated: list[str]
) -> PreparedCopy:
    """Count the rows that only the present database has."""
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
    return PreparedCopy(count, size, migrated, last_at, *counts, trouble, source, draft, database)


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
