"""Locks on files, which the kernel gives up when their holder ends, however it ends.

They are flock(2)'s: they belong to the open file, so a program that this process becomes keeps
them where the descriptor is inheritable.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

#: Seconds between two attempts to take a lock that another process holds.
_PAUSE: Final = 0.05
#: Bytes that are read of a lock file to learn its holder's pid.
_PID_BYTES: Final = 20


def take(descriptor: int, *, shared: bool = False, patience: float | None = 0.0) -> None:
    """Lock an open file for as long as it stays open.

    `patience` is how many seconds to wait for another holder; None waits for ever. Raises
    BlockingIOError when the time is over, OSError where the file system can't lock.
    """
    how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    if patience is None:
        fcntl.flock(descriptor, how)
        return
    end = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                raise
            time.sleep(_PAUSE)
        else:
            return


def release(descriptor: int) -> None:
    """Give up the lock of an open file. Raises OSError."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)


def open_file(path: Path) -> int:
    """Open a lock's file, made with mode 0600 if need be, and return its descriptor.

    Raises OSError.
    """
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


@contextlib.contextmanager
def held(path: Path, *, shared: bool = False, patience: float | None = 0.0) -> Iterator[int]:
    """Hold the lock of the file at `path` within the block; yields its descriptor.

    Raises BlockingIOError when another process has held it for `patience` seconds (None: wait for
    ever), OSError where the file can't be opened or locked.
    """
    descriptor = open_file(path)
    try:
        take(descriptor, shared=shared, patience=patience)
        yield descriptor
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether a process holds the lock alone. Raises OSError where the file can't be opened."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return not _can_share(descriptor)
    finally:
        os.close(descriptor)


def write_pid(descriptor: int) -> None:
    """Write this process's pid into a lock's file, for `holder` to read. Raises OSError."""
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)


def holder(path: Path) -> int | None:
    """Return the pid that the lock's holder wrote; None where no process holds the lock.

    Raises ValueError where the file holds no pid, OSError where it can't be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _can_share(descriptor):
            return None
        return int(os.pread(descriptor, _PID_BYTES, 0))
    finally:
        os.close(descriptor)


def _can_share(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
