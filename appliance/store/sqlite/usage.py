"""Who uses the database: a lock that every process shares, and that a restore holds alone.

It is a file beside the database, so it holds however the processes were started: by supervisord,
by systemd or by hand. The kernel lets go of it when a process ends, however it ends.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from appliance.errors import InUseError, StoreError
from appliance.machine import files

#: Seconds for which a process waits for a restore to end before it gives up (and is started anew).
_PATIENCE: Final = 20.0


@contextmanager
def shared(database: Path, patience: float = _PATIENCE) -> Iterator[None]:
    """Use the database within the block, beside others.

    Raises InUseError where it is still being restored after `patience` seconds.
    """
    with _held(database, fcntl.LOCK_SH, patience, f"{database} is being restored"):
        yield


@contextmanager
def alone(database: Path) -> Iterator[None]:
    """Have the database alone within the block. Raises InUseError where somebody uses it."""
    words = f"{database} is in use: stop the appliance first"
    with _held(database, fcntl.LOCK_EX, 0.0, words):
        yield


@contextmanager
def _held(database: Path, how: int, patience: float, words: str) -> Iterator[None]:
    try:
        database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = database.with_name(database.name + ".lock")
        descriptor = os.open(lock, os.O_CREAT | os.O_RDONLY | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"{database}: can't be locked: {error.strerror}") from error
    try:
        files.give_to_owner_of(database.parent, descriptor)
        _take(descriptor, how, patience, words)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, how: int, patience: float, words: str) -> None:
    end = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= end:
                raise InUseError(words) from error
            time.sleep(0.05)
        else:
            return
