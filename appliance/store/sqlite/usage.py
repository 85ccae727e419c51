"""A lock that every process which uses the database shares, and that a restore holds alone.

The lock is a file beside the database, so it holds however the processes were started: by
supervisord, by systemd or by hand. The kernel releases it when a process ends, however it ends.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from appliance.errors import InUseError, StoreError
from appliance.machine import files, locks, place
from appliance.store.sqlite import paths
from appliance.store.sqlite.open_files import look_before_start

#: Seconds for which a process waits for a restore to end before it gives up (and is restarted).
_PATIENCE: Final = 20.0


@contextmanager
def shared(database: Path, patience: float = _PATIENCE) -> Iterator[None]:
    """Use the database within the block, beside other processes.

    Raises InUseError where it is still being restored after `patience` seconds.
    """
    text = f"{database} is being restored"
    with _held(database, text, shared=True, patience=patience) as descriptor:
        place.enter(database.parent)
        try:
            yield
        finally:
            # The last one out takes it alone: let go first, or two that end at once both fail.
            with suppress(OSError):
                locks.release(descriptor)
                locks.take(descriptor)
                place.leave(database.parent)


def look_first(database: Path) -> None:
    """Look at the write-ahead log if no process uses the database: to open it would mend it."""
    lock = paths.with_suffix(database, ".lock")
    with suppress(OSError):  # in use, or never used
        descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
        try:
            locks.take(descriptor)
            look_before_start(database)
        finally:
            os.close(descriptor)


@contextmanager
def alone(database: Path) -> Iterator[None]:
    """Have the database alone within the block. Raises InUseError where a process uses it."""
    text = f"{database} is in use: stop the appliance first"
    with _held(database, text, shared=False, patience=0.0):
        yield


@contextmanager
def _held(database: Path, text: str, *, shared: bool, patience: float) -> Iterator[int]:
    try:
        database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = locks.open_file(paths.with_suffix(database, ".lock"))
    except OSError as error:
        raise StoreError(f"{database}: can't be locked: {error.strerror}") from error
    try:
        files.give_to_owner_of(database.parent, descriptor)
        try:
            if shared:
                with suppress(BlockingIOError):  # another process came first
                    locks.take(descriptor)
                    look_before_start(database)
            locks.take(descriptor, shared=shared, patience=patience)
        except BlockingIOError as error:
            raise InUseError(text) from error
        yield descriptor
    finally:
        os.close(descriptor)
