"""The files of an open connection: whether they are still those at their paths, and whole.

A file that another program removed or replaced stays open here, and whatever is committed to it
would be gone with this process. So a writer looks before each transaction. Of a write-ahead log
that was removed, all of it is still open, and is moved into the database at once. Of a database
that was removed or replaced, a copy is made. Frames that were cut off the log are lost.
"""

import contextlib
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import structlog

from appliance.errors import LostCommitsError, StoreError
from appliance.machine import files
from appliance.store.sqlite import paths, wal_index
from appliance.store.sqlite.database import connect, sqlite3, store_error

#: Seconds for which readers can keep a removed log from being moved.
_PATIENCE: Final = 5.0
_PAUSE: Final = 0.05
_STAMP: Final = "%Y%m%dT%H%M%SZ"

_log: Any = structlog.get_logger(__name__)


def identity(path: Path) -> tuple[int, int] | None:
    """Return what tells the file at `path` from any other; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


class OpenFiles:
    """The database at `path` and its log, as `connection` has opened them; used by its thread."""

    def __init__(self, path: Path, connection: Any) -> None:
        self._path = path
        self._log = paths.wal(path)
        self._connection = connection
        self._database_identity = identity(path)
        self._log_identity = identity(self._log)
        self._names = str(path), str(self._log)
        self._glance = wal_index.IndexGlance(path)
        # A path only: closing it drops no lock of SQLite's.
        self._handle = os.open(path, os.O_PATH | os.O_CLOEXEC)

    def close(self) -> None:
        """Give the handle back; a second call does nothing."""
        self._glance.close()
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def check(self) -> None:
        """Return where all is well; else save what can be saved, and log it.

        Raises LostCommitsError where committed messages are not in the database at the path any
        more, StoreError where they all are, where the database is at no path that is known, or
        where the disk fails; the connection must then be closed.
        """
        try:
            if self._is_well():
                return
            if identity(self._path) != self._database_identity:
                self._save_database()
            if identity(self._log) != self._log_identity:
                self._save_log()
            forget_missing(self._path)
        except OSError as error:  # of the disk: no message's fault
            raise StoreError(f"{self._path}: {error.strerror}") from error

    def _is_well(self) -> bool:
        """Whether all is well, at the price of four system calls; False may be a false alarm."""
        try:
            database, log = map(os.stat, self._names)
        except OSError:
            return False
        return (
            (database.st_dev, database.st_ino) == self._database_identity
            and (log.st_dev, log.st_ino) == self._log_identity
            and self._glance.is_whole(log.st_size)
        )

    def _save_log(self) -> None:
        """Move the log that is open here into the database, and let go of it."""
        end = time.monotonic() + _PATIENCE
        while not (saved := self._moved_all()) and time.monotonic() < end:
            time.sleep(_PAUSE)
        wal_index.forget(self._path)
        if saved:
            _log.error("write-ahead log removed", path=str(self._log), saved=True)
            raise StoreError(
                f"{self._log} was removed or replaced by another program; all of it was saved"
            )
        _log.error("write-ahead log removed", path=str(self._log), saved=False)
        raise LostCommitsError(_lost(self._log, "was removed or replaced"))

    def _moved_all(self) -> bool:
        """Move what can be moved now; whether that is all."""
        try:
            row = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error as error:
            _log.debug("removed log not readable", error=str(error))
            return False
        _, frames, moved = row  # -1 while another process moves
        return bool(frames >= 0 and frames == moved)

    def _save_database(self) -> None:
        """Copy the database that is open here to a name beside the path."""
        is_there = self._path.exists()
        if not is_there and os.fstat(self._handle).st_nlink:
            raise StoreError(
                f"{self._path} is not there any more: its folder was moved. Move it back, or stop "
                "the appliance and start it on the new place (APPLIANCE_DATA)"
            )
        stamp = datetime.now(UTC).strftime(_STAMP)
        copy = paths.with_suffix(self._path, f".{'replaced' if is_there else 'removed'}-{stamp}")
        try:
            copy.unlink(missing_ok=True)
            self._connection.execute("VACUUM INTO ?", (str(copy),))
            copy.chmod(0o600)
            files.sync(copy)
            if not is_there:
                for suffix in paths.BESIDE:  # they belong to the file that is gone
                    paths.with_suffix(self._path, suffix).unlink(missing_ok=True)
                with contextlib.suppress(FileExistsError):
                    os.link(copy, self._path)
                    copy.unlink()
                    copy = self._path
            files.sync(self._path.parent)
        except (sqlite3.Error, OSError) as error:
            _log.error("database removed", path=str(self._path), saved=False, error=str(error))
            raise LostCommitsError(_lost(self._path, "was removed or replaced")) from error
        _log.error("database removed", path=str(self._path), saved=True, copy=str(copy))
        raise LostCommitsError(
            f"{self._path} was removed or replaced by another program; all that was in it is in "
            f"{copy}"
        )


def forget_missing(path: Path) -> None:
    """Where the log lacks frames, have SQLite go on with those that are left, and say so.

    Raises LostCommitsError then, StoreError where another process is writing.
    """
    end = time.monotonic() + _PATIENCE
    while not wal_index.cut_at_gap(path):
        if time.monotonic() > end:
            raise StoreError(f"{path}: another process has been writing to it for long")
        time.sleep(_PAUSE)
    index = wal_index.missing(path)
    if index is None:
        return
    log = paths.wal(path)
    if not wal_index.forget(path):
        if wal_index.missing(path) is None:
            return
        raise StoreError(f"{log} was cut short by another program, and a process writes to it")
    left = index.frames_in(paths.size(log))
    _log.error(
        "write-ahead log cut short", path=str(log), pages=index.frames, pages_left=left,
        advice="appliance verify says what is missing",
    )  # fmt: skip
    raise LostCommitsError(_lost(log, "was cut short or removed"))


def look_before_start(path: Path) -> None:
    """Say what the log has lost since its index was written, before the first process opens it.

    Pages of a damaged log that are older than those that a checkpoint has moved are never moved
    again. A database that can't be read is left to those who need it.
    """
    index = wal_index.read(path)
    if index is None or not index.frames or not wal_index.is_of_log(path, index):
        return
    log = paths.wal(path)
    try:
        if index.moved and wal_index.valid_frames(path, index) < index.moved:
            wal_index.empty(path)
        left = _frames_left(path)
    except (OSError, StoreError) as error:
        _log.debug("write-ahead log not looked at", path=str(log), error=str(error))
        return
    if left < index.frames:
        _log.error(
            "write-ahead log damaged", path=str(log), pages=index.frames, pages_left=left,
            advice="appliance verify says what is missing",
        )  # fmt: skip


def _frames_left(path: Path) -> int:
    """Have SQLite read the log, as after a crash; return how many frames it takes."""
    connection = connect(path, readonly=True)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        now = wal_index.read(path)
    except sqlite3.Error as error:
        raise store_error(error, path) from error
    finally:
        connection.close()
    return 0 if now is None else now.frames


def _lost(path: Path, how: str) -> str:
    return (
        f"{path} {how} by another program, and with it messages that were stored last; "
        "appliance verify says what is missing"
    )
