"""Backups of the database: made while it is in use, checked, whole or not at all.

A backup is made with `VACUUM INTO`: one snapshot, so that it is consistent, without free pages, and
with no WAL beside it. The worker goes on writing meanwhile; its writes stay in the WAL until the
copy is done. (SQLite's backup interface starts again whenever another process has written; beside a
worker under load it never ended.)
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final

from appliance.errors import BackupBusyError, BackupError, BackupRoomError, StoreError
from appliance.machine import disk_space, files, locks
from appliance.store.base import Backup, KeptBackup, Progress
from appliance.store.proving import BackupProof
from appliance.store.rows import Rescued
from appliance.store.sqlite import integrity, paths
from appliance.store.sqlite.database import connect, sqlite3, store_error

#: Steps of SQLite's machine between two looks at the progress: some ten milliseconds.
_STEPS: Final = 100_000
#: Bytes after which the copy is sent to the disk, so that the worker's own fsyncs never wait behind
#: gigabytes of it.
_SYNC_BYTES: Final = 32 * 2**20
#: How a scheduled backup's name begins; only such files are ever deleted for newer ones.
_SCHEDULED: Final = "scheduled-"
_MANUAL: Final = "appliance-"
_DOWNLOAD: Final = "download-"
_SUFFIX: Final = ".db"
_STAMP: Final = "%Y%m%dT%H%M%SZ"


class SqliteBackups:
    """Backups of the database at `path`, kept in `folder`.

    `floor` bytes must stay free on the database's disk.
    """

    #: As IANA has it.
    media_type: Final = "application/vnd.sqlite3"

    def __init__(self, path: Path, folder: Path, floor: int) -> None:
        self._path = path
        self.folder: Final = folder
        self._floor = floor

    def name(self, *, scheduled: bool = False) -> str:
        """Return the file name of a backup made now."""
        stamp = datetime.now(UTC).strftime(_STAMP)
        return f"{_SCHEDULED if scheduled else _MANUAL}{stamp}{_SUFFIX}"

    def make_folder(self) -> None:
        """Make the folder, and remove drafts that a killed process left in it.

        Raises BackupError.
        """
        folder = self.folder
        try:
            if not folder.exists():
                folder.mkdir(mode=0o700, parents=True)
                files.give_to_owner_of(self._path.parent, folder)
            for draft in folder.glob(f".*{_SUFFIX}.part"):
                _remove_orphan(draft)
        except OSError as error:
            raise BackupError(f"{folder}: can't be used for backups: {error.strerror}") from error

    def make(self, target: Path, progress: Progress) -> Backup:
        """Copy the database to the new file `target` (mode 0600), checked and on disk.

        Nothing is left where it fails. Raises BackupBusyError while another backup is made,
        BackupRoomError where there is no room for it, BackupError where it was stopped, is damaged
        or can't be written, StoreError where the database can't be read.
        """
        began = time.monotonic()
        if target.exists():
            raise BackupError(f"{target} is there already; name another file")
        with self._alone():
            draft = target.with_name(f".{target.name}.part")
            with _removed_at_last(draft):
                messages = fill(self._path, draft, self._floor, progress)
                size = draft.stat().st_size
                draft.rename(target)
                files.sync(target.parent)
        return Backup(target, size, messages, time.monotonic() - began)

    def rescue(self, target: Path, progress: Progress) -> Rescued:
        """Make the new file `target` of all that can be read of a damaged database, checked.

        Nothing is left where it fails. Raises BackupBusyError while a backup is made, BackupError
        where it was stopped or can't be written, StoreError where nothing can be read.
        """
        from appliance.store.sqlite import rescue  # noqa: PLC0415

        if target.exists():
            raise BackupError(f"{target} is there already; name another file")
        with self._alone():
            draft = target.with_name(f".{target.name}.part")
            draft.unlink(missing_ok=True)
            with _removed_at_last(draft):
                result = rescue.rescue(self._path, draft, progress)
                check(draft, progress)
                draft.chmod(0o600)
                files.give_to_owner_of(target.parent, draft)
                files.sync(draft)
                draft.rename(target)
                files.sync(target.parent)
        result.path = target
        return result

    def prove(self, source: Path, progress: Progress) -> BackupProof:
        """Restore the backup `source` into a scratch folder, verify and compare it; remove it.

        Raises BackupBusyError, BackupRoomError, BackupError (see `Backups`).
        """
        from appliance.store.sqlite import prove  # noqa: PLC0415

        return prove.prove(source, self._path, self._floor, progress)

    def clear_proof(self) -> None:
        """Remove what a proof left that was killed. Raises BackupError."""
        from appliance.store.sqlite import prove  # noqa: PLC0415

        prove.clear(self._path)

    def download(self, progress: Progress) -> BinaryIO:
        """Return an open copy without a name: the disk space is free once it is closed.

        Raises the same errors as `make`.
        """
        self.make_folder()
        with self._alone():
            draft = self.folder / f".{_DOWNLOAD}{os.getpid()}{_SUFFIX}.part"
            with _removed_at_last(draft):
                fill(self._path, draft, self._floor, progress)
                return draft.open("rb")

    def scheduled(self) -> list[tuple[float, Path]]:
        """Return the scheduled backups in the folder with their Unix times, oldest first."""
        return self._named(_SCHEDULED)

    def kept(self) -> list[KeptBackup]:
        """Return the backups in the folder, scheduled or not, the newest first.

        Raises BackupError.
        """
        found = []
        try:
            for prefix in (_SCHEDULED, _MANUAL):
                for moment, path in self._named(prefix):
                    with suppress(FileNotFoundError):  # a newer one has taken its place
                        size, scheduled = path.stat().st_size, prefix == _SCHEDULED
                        found.append(KeptBackup(path.name, size, moment, scheduled))
        except OSError as error:
            raise BackupError(f"{self.folder}: can't be read: {error.strerror}") from error
        return sorted(found, key=lambda backup: (-backup.made_at, backup.name))

    def _named(self, prefix: str) -> list[tuple[float, Path]]:
        """Return the backups whose names begin so, with their Unix times, oldest first."""
        backups = []
        for path in self.folder.glob(f"{prefix}*{_SUFFIX}"):
            with suppress(ValueError):
                stamp = path.name.removeprefix(prefix).removesuffix(_SUFFIX)
                moment = datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC)
                backups.append((moment.timestamp(), path))
        return sorted(backups)

    def prune(self, keep: int) -> list[Path]:
        """Delete the oldest scheduled backups except for `keep`; return those deleted.

        Raises BackupError.
        """
        old = [path for _, path in self.scheduled()[:-keep]]
        try:
            for path in old:
                path.unlink()
        except OSError as error:
            raise BackupError(
                f"{self.folder}: an old backup can't be deleted: {error.strerror}"
            ) from error
        return old

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Allow one copy at a time: each keeps the WAL from being cut, and fills the disk."""
        path = self._path
        if not path.exists():
            raise BackupError(f"{path} is not there; there is nothing to copy yet")
        try:
            descriptor = locks.open_file(paths.with_suffix(path, ".backup"))
        except OSError as error:
            raise BackupError(f"{path}: can't be locked: {error.strerror}") from error
        try:
            files.give_to_owner_of(path.parent, descriptor)
            try:
                locks.take(descriptor)
            except BlockingIOError as error:
                raise BackupBusyError(
                    "another backup is being made; wait until it is done"
                ) from error
            yield
        finally:
            os.close(descriptor)


def _remove_orphan(draft: Path) -> None:
    """Remove a draft that no process writes any more."""
    with suppress(FileNotFoundError), draft.open("rb") as file, suppress(BlockingIOError):
        locks.take(file.fileno())
        draft.unlink()


@contextmanager
def _removed_at_last(draft: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BackupError(f"{draft.parent}: can't be written: {error.strerror}") from error
    finally:
        with suppress(OSError):
            draft.unlink()


def fill(database: Path, draft: Path, floor: int, progress: Progress) -> int:
    """Copy and check; return the number of messages. The draft is on disk when this returns.

    `floor` bytes stay free where both are on one disk. Raises the errors of `SqliteBackups.make`,
    and OSError where the draft can't be made.
    """
    with suppress(FileNotFoundError):
        draft.unlink()
    descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        locks.take(descriptor, patience=None)  # shows that a process writes it
        files.give_to_owner_of(draft.parent, descriptor)
        _Copying(database, draft, descriptor, floor, progress).run()
        os.fsync(descriptor)
        return check(draft, progress)
    finally:
        os.close(descriptor)


class _Copying:
    """One `VACUUM INTO`, watched from within."""

    def __init__(
        self, database: Path, draft: Path, descriptor: int, floor: int, progress: Progress
    ) -> None:
        self._database = database
        self._draft = draft
        self._descriptor = descriptor
        same_disk = draft.parent.stat().st_dev == database.parent.stat().st_dev
        self._floor = floor if same_disk else 0
        self._progress = progress
        self._expected = 1
        self._synced = 0
        self._trouble: StoreError | None = None

    def run(self) -> None:
        connection = connect(self._database, readonly=True)
        try:
            self._check_space(connection)
            connection.set_progress_handler(self._look, _STEPS)
            connection.execute("VACUUM INTO ?", (str(self._draft),))
        except sqlite3.Error as error:
            trouble = self._trouble or _copy_error(error, self._database, self._draft)
            raise trouble from error
        finally:
            connection.close()

    def _check_space(self, connection: Any) -> None:
        size, pages, unused = (
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_size", "page_count", "freelist_count")
        )
        self._expected = max(1, size * (pages - unused))
        free = _free_bytes(self._draft.parent)
        if free - self._expected < self._floor:
            raise BackupRoomError(
                f"no room for a copy of {self._expected} bytes: {free} are free, and "
                f"{self._floor} must stay so"
            )

    def _look(self) -> int:
        """Return 0 to go on; SQLite calls it from within the copying."""
        size = os.fstat(self._descriptor).st_size
        if size - self._synced >= _SYNC_BYTES:
            os.fdatasync(self._descriptor)
            self._synced = size
            free = _free_bytes(self._draft.parent)
            if free < self._floor:
                self._trouble = BackupRoomError(
                    f"no room for the copy: {free} bytes are left, {self._floor} must stay free"
                )
        if not self._progress("copying", min(1.0, size / self._expected)):
            self._trouble = BackupError("the copy was stopped")
        return int(self._trouble is not None)


def check(path: Path, progress: Progress) -> int:
    """Return the number of messages in the file at `path`, which no other process uses.

    Raises BackupError where SQLite's integrity check reports an error, or was stopped.
    """
    stopped = False

    def look() -> int:
        nonlocal stopped
        stopped = not progress("checking", None)
        return int(stopped)

    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
        try:
            connection.set_progress_handler(look, _STEPS)
            errors = integrity.check(connection, "integrity_check", 1).errors
            messages = connection.execute("SELECT count(*) FROM messages").fetchone()[0]
        finally:
            connection.close()
    except sqlite3.Error as error:
        text = "the check was stopped" if stopped else f"{path} is not sound: {error}"
        raise BackupError(text) from error
    if errors:
        raise BackupError(f"{path} is not sound: {errors[0]}")
    return int(messages)


def _free_bytes(folder: Path) -> int:
    return disk_space.disk(folder, "the backup's disk", 0, 0).free


def _copy_error(error: Exception, database: Path, draft: Path) -> StoreError:
    """Return the error in our words; a full disk is the copy's, not the database's."""
    if getattr(error, "sqlite_errorname", "").startswith("SQLITE_FULL"):
        return BackupRoomError(f"no room for the copy on the disk of {draft.parent}")
    return store_error(error, database)
