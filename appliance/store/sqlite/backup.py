"""Copies of the database: made while it is in use, checked, whole or not at all.

A copy is made with `VACUUM INTO`: one snapshot, so that it is consistent, and a copy without free
pages that needs no WAL beside it. The worker goes on writing meanwhile; what it writes stays in the
WAL until the copy is done. (SQLite's backup interface begins anew whenever another process has
written; beside a worker under load it never ended.)
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

from appliance.errors import BackupBusyError, BackupError, BackupRoomError, StoreError
from appliance.machine import files
from appliance.store.sqlite.connection import connect, sqlite3, store_error

#: Steps of SQLite's machine between two looks at the progress: some ten milliseconds.
_STEPS: Final = 100_000
#: Bytes after which what was copied is sent to the disk, so that the worker's own fsyncs never
#: wait behind gigabytes of it.
_SYNC_BYTES: Final = 32 * 2**20
#: What a scheduled copy's name begins with; only such are ever deleted for newer ones.
_SCHEDULED: Final = "scheduled-"
_MANUAL: Final = "appliance-"
_DOWNLOAD: Final = "download-"
_SUFFIX: Final = ".db"
_STAMP: Final = "%Y%m%dT%H%M%SZ"

#: Called now and then with what is being done and, where that is known, how much of it is (0 to
#: 1); whether to go on.
Watch = Callable[[str, float | None], bool]


class Copy(NamedTuple):
    """A copy that was made: its size in bytes, its messages, how long it took."""

    path: Path
    bytes: int
    messages: int
    seconds: float


def _go_on(_what: str, _done: float | None) -> bool:
    return True


def name(*, scheduled: bool = False) -> str:
    """Return the name of a copy made now."""
    stamp = datetime.now(UTC).strftime(_STAMP)
    return f"{_SCHEDULED if scheduled else _MANUAL}{stamp}{_SUFFIX}"


def make(database: Path, target: Path, floor: int, watch: Watch = _go_on) -> Copy:
    """Copy `database` to the new file `target` (mode 0600), checked and on disk.

    `floor` bytes stay free where both are on one disk. Nothing is left where it fails. Raises
    BackupBusyError while another copy is made, BackupRoomError where there is no room for it,
    BackupError where it was stopped, is not sound or its place can't be written, StoreError where
    the database can't be read.
    """
    began = time.monotonic()
    if target.exists():
        raise BackupError(f"{target} is there already; name another file")
    with _alone(database):
        draft = target.with_name(f".{target.name}.part")
        with _removed_at_last(draft):
            messages = fill(database, draft, floor, watch)
            size = draft.stat().st_size
            draft.rename(target)
            files.sync(target.parent)
    return Copy(target, size, messages, time.monotonic() - began)


def download(database: Path, folder: Path, floor: int, watch: Watch = _go_on) -> BinaryIO:
    """Return an open copy that has no name: it is gone when it is closed, whoever closes it.

    Raises what `make` does.
    """
    with _alone(database):
        draft = folder / f".{_DOWNLOAD}{os.getpid()}{_SUFFIX}.part"
        with _removed_at_last(draft):
            fill(database, draft, floor, watch)
            return draft.open("rb")


def scheduled(folder: Path) -> list[tuple[float, Path]]:
    """Return the scheduled copies in `folder` with their times (seconds since 1970), by time."""
    found = []
    for path in folder.glob(f"{_SCHEDULED}*{_SUFFIX}"):
        with suppress(ValueError):
            stamp = path.name.removeprefix(_SCHEDULED).removesuffix(_SUFFIX)
            moment = datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC)
            found.append((moment.timestamp(), path))
    return sorted(found)


def prune(folder: Path, keep: int) -> list[Path]:
    """Delete the oldest scheduled copies but `keep`; return them. Raises BackupError."""
    old = [path for _, path in scheduled(folder)[:-keep]]
    try:
        for path in old:
            path.unlink()
    except OSError as error:
        raise BackupError(f"{folder}: an old backup can't be deleted: {error.strerror}") from error
    return old


def make_folder(folder: Path, database: Path) -> None:
    """Make the folder that copies are kept in, and remove what a killed process left there.

    Raises BackupError.
    """
    try:
        if not folder.exists():
            folder.mkdir(mode=0o700, parents=True)
            files.give_to_owner_of(database.parent, folder)
        for draft in folder.glob(f".*{_SUFFIX}.part"):
            _remove_orphan(draft)
    except OSError as error:
        raise BackupError(f"{folder}: can't be used for backups: {error.strerror}") from error


def _remove_orphan(draft: Path) -> None:
    """Remove a draft that no process writes any more."""
    with suppress(FileNotFoundError), draft.open("rb") as file, suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        draft.unlink()


@contextmanager
def _alone(database: Path) -> Iterator[None]:
    """Hold the right to copy: each copy keeps the WAL from being cut and fills the disk."""
    if not database.exists():
        raise BackupError(f"{database} is not there; there is nothing to copy yet")
    try:
        descriptor = os.open(
            database.with_name(database.name + ".backup"), os.O_CREAT | os.O_RDWR, 0o600
        )
    except OSError as error:
        raise BackupError(f"{database}: can't be locked: {error.strerror}") from error
    try:
        files.give_to_owner_of(database.parent, descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise BackupBusyError("another backup is being made; wait until it is done") from error
    finally:
        os.close(descriptor)


@contextmanager
def _removed_at_last(draft: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BackupError(f"{draft.parent}: can't be written: {error.strerror}") from error
    finally:
        with suppress(OSError):
            draft.unlink()


def fill(database: Path, draft: Path, floor: int, watch: Watch) -> int:
    """Copy and check; return the number of messages. The draft is on disk when this returns.

    Raises what `make` does, and OSError where the draft can't be made.
    """
    with suppress(FileNotFoundError):
        draft.unlink()
    descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # says that somebody writes it
        files.give_to_owner_of(draft.parent, descriptor)
        _Copying(database, draft, descriptor, floor, watch).run()
        os.fsync(descriptor)
        return check(draft, watch)
    finally:
        os.close(descriptor)


class _Copying:
    """One `VACUUM INTO`, watched from within."""

    def __init__(
        self, database: Path, draft: Path, descriptor: int, floor: int, watch: Watch
    ) -> None:
        self._database = database
        self._draft = draft
        self._descriptor = descriptor
        same_disk = draft.parent.stat().st_dev == database.parent.stat().st_dev
        self._floor = floor if same_disk else 0
        self._watch = watch
        self._expected = 1
        self._synced = 0
        self._trouble: StoreError | None = None

    def run(self) -> None:
        connection = connect(self._database, readonly=True)
        try:
            self._check_room(connection)
            connection.set_progress_handler(self._look, _STEPS)
            connection.execute("VACUUM INTO ?", (str(self._draft),))
        except sqlite3.Error as error:
            trouble = self._trouble or _copy_error(error, self._database, self._draft)
            raise trouble from error
        finally:
            connection.close()

    def _check_room(self, connection: Any) -> None:
        size, pages, unused = (
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_size", "page_count", "freelist_count")
        )
        self._expected = max(1, size * (pages - unused))
        free = _free(self._draft.parent)
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
            free = _free(self._draft.parent)
            if free < self._floor:
                self._trouble = BackupRoomError(
                    f"no room for the copy: {free} bytes are left, {self._floor} must stay free"
                )
        if not self._watch("copying", min(1.0, size / self._expected)):
            self._trouble = BackupError("the copy was stopped")
        return int(self._trouble is not None)


def check(path: Path, watch: Watch = _go_on) -> int:
    """Return the number of messages in the file at `path`, which nobody else uses.

    Raises BackupError where SQLite's integrity check finds anything, or was stopped.
    """
    stopped = False

    def look() -> int:
        nonlocal stopped
        stopped = not watch("checking", None)
        return int(stopped)

    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
        try:
            connection.set_progress_handler(look, _STEPS)
            found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
            messages = connection.execute("SELECT count(*) FROM messages").fetchone()[0]
        finally:
            connection.close()
    except sqlite3.Error as error:
        words = "the check was stopped" if stopped else f"{path} is not sound: {error}"
        raise BackupError(words) from error
    if found != "ok":
        raise BackupError(f"{path} is not sound: {found}")
    return int(messages)


def _free(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def _copy_error(error: Exception, database: Path, draft: Path) -> StoreError:
    """Return what went wrong in our words: a full disk is that of the copy."""
    if getattr(error, "sqlite_errorname", "").startswith("SQLITE_FULL"):
        return BackupRoomError(f"no room for the copy on the disk of {draft.parent}")
    return store_error(error, database)
