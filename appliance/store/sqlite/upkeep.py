"""The janitor's duties for the database: empty the write-ahead log, and look after the rows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import structlog

from appliance.errors import StoreError
from appliance.machine.complaint import Complaint
from appliance.model.retention import Rules
from appliance.store.base import Duty, Rest
from appliance.store.sql.row_upkeep import RowUpkeep
from appliance.store.sqlite import paths, wal_index
from appliance.store.sqlite.database import connect, sqlite3, store_error
from appliance.store.sqlite.recount import SqliteRecount
from appliance.store.sqlite.sql_database import SqliteDatabase

#: Seconds between two looks at the WAL.
_WAL_EVERY: Final = 30.0
#: Bytes of WAL that are left alone: a commit writes a few pages, and to cut the file each time
#: would cost more than it saves.
_WAL_SMALL: Final = 4 * 2**20
#: Bytes of WAL that are reported where it can't be cut: SQLite starts it over at 40 MB.
_WAL_LARGE: Final = 128 * 2**20
#: Milliseconds for which a checkpoint waits for writers and readers; the next one tries again.
_PATIENCE_MS: Final = 200
#: First and last byte of the -shm file that readers lock.
_READ_LOCKS: Final = (123, 127)

_log: Any = structlog.get_logger(__name__)


class Upkeep:
    """Looks after the database; used by one thread."""

    def __init__(self, database: SqliteDatabase, rules: Rules, rest: Rest) -> None:
        self._path = database.path
        self._rows = RowUpkeep(database, rules, rest, SqliteRecount(database.path, rest))
        self._reported_bytes = 0  # of the WAL that could not be emptied

    def duties(self) -> Sequence[Duty]:
        """Return the duties; the last one only where there are retention rules."""
        complaint = Complaint(_log, "checkpoint failed", "checkpoint works again")
        return [Duty(self.cut_wal, _WAL_EVERY, complaint), *self._rows.duties()]

    def cut_wal(self) -> float:
        """Checkpoint a WAL that has grown; where readers are in the way, name them.

        They are named once for each doubling of the WAL. Returns the seconds until the next look.
        Raises StoreError.
        """
        size = wal_size(self._path)
        if size <= _WAL_SMALL:
            self._reported_bytes = 0
            return _WAL_EVERY
        result = checkpoint(self._path)
        if not result.busy:
            _log.debug("checkpoint done", pages=result.moved_pages)
            if self._reported_bytes:
                _log.info("write-ahead log emptied", bytes=size)
            self._reported_bytes = 0
        elif size >= max(_WAL_LARGE, 2 * self._reported_bytes):
            # A program holds a read open.
            _log.warning("write-ahead log held open", bytes=size, readers=readers(self._path))
            self._reported_bytes = size
        return _WAL_EVERY


class Checkpoint(NamedTuple):
    """The outcome of a checkpoint: whether a reader or writer was in the way, and pages moved."""

    busy: bool
    moved_pages: int


def checkpoint(path: Path) -> Checkpoint:
    """Move the WAL into the database, and cut it to nothing if no reader or writer is in the way.

    Raises StoreError.
    """
    try:
        if wal_index.has_gap(path):  # zeros would go over good pages
            raise StoreError(
                f"{paths.wal(path)} was cut short by another program; the worker goes on with "
                "what is left once a message comes, and so does a restart of the appliance"
            )
        connection = connect(path, readonly=False)
        try:
            connection.execute(f"PRAGMA busy_timeout = {_PATIENCE_MS}")
            busy, _, moved = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise store_error(error, path) from error
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
    return Checkpoint(bool(busy), moved)


def wal_size(path: Path) -> int:
    """Return the bytes of the database's WAL; 0 where there is none."""
    return paths.size(paths.wal(path))


def readers(path: Path, locks: Path = Path("/proc/locks")) -> list[str]:
    """Return the processes that read the database at this moment, as `name (pid)`.

    A process that is listed again and again holds a snapshot open, and with it the WAL. The list
    comes from the kernel's locks: SQLite's readers lock bytes 123 to 127 of the -shm file. It is
    empty where the locks can't be read, and lacks processes outside of our container.
    """
    try:
        inode = paths.shared_memory(path).stat().st_ino
        lines = locks.read_text().splitlines()
    except OSError:
        return []
    pids = set()
    for line in lines:
        # 1: POSIX  ADVISORY  READ 4711 fe:00:131 123 123
        words = line.split()
        if words[1:2] != ["POSIX"] or len(words) != 8 or words[5].split(":")[-1] != str(inode):
            continue
        first, pid = words[6], words[4]
        if first.isdigit() and _READ_LOCKS[0] <= int(first) <= _READ_LOCKS[1] and pid.isdigit():
            pids.add(pid)
    return sorted(f"{_name(pid)} ({pid})" for pid in pids - {"0"})


def _name(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return "process"
