"""Keep the database's files small."""

from pathlib import Path
from typing import Final, NamedTuple

from appliance.store.sqlite.connection import connect, sqlite3, store_error

#: Milliseconds to wait for writers and readers; the next turn tries again.
_PATIENCE_MS: Final = 200
#: Bytes of the -shm file that readers lock.
_READ_LOCKS: Final = (123, 127)


class Checkpoint(NamedTuple):
    """What a checkpoint found: whether a reader or writer stood in its way, pages, pages moved."""

    busy: bool
    wal_pages: int
    moved_pages: int


def checkpoint(path: Path) -> Checkpoint:
    """Move the WAL into the database and cut it to nothing, if nobody is in the way.

    Raises StoreError.
    """
    try:
        connection = connect(path, readonly=False)
        try:
            connection.execute(f"PRAGMA busy_timeout = {_PATIENCE_MS}")
            row = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise store_error(error, path) from error
    return Checkpoint(bool(row[0]), row[1], row[2])


def wal_size(path: Path) -> int:
    """Return the bytes of the database's WAL; 0 where there is none."""
    try:
        return path.with_name(path.name + "-wal").stat().st_size
    except FileNotFoundError:
        return 0


def readers(path: Path, locks: Path = Path("/proc/locks")) -> list[str]:
    """Return the processes that are reading the database at this moment, as `name (pid)`.

    One that is among them again and again holds a snapshot open, and with it the WAL. Read from
    the kernel's list of locks: SQLite's readers lock bytes 123 to 127 of the -shm file. Empty where
    that can't be read; a process outside of our container can't be seen.
    """
    try:
        inode = path.with_name(path.name + "-shm").stat().st_ino
        lines = locks.read_text().splitlines()
    except OSError:
        return []
    found = set()
    for line in lines:
        # 1: POSIX  ADVISORY  READ 4711 fe:00:131 123 123
        words = line.split()
        if words[1:2] != ["POSIX"] or len(words) != 8 or words[5].split(":")[-1] != str(inode):
            continue
        first, pid = words[6], words[4]
        if first.isdigit() and _READ_LOCKS[0] <= int(first) <= _READ_LOCKS[1] and pid.isdigit():
            found.add(pid)
    return sorted(f"{_name(pid)} ({pid})" for pid in found - {"0"})


def _name(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "process"
