"""How long the disk takes to confirm that a write is on it."""

import os
import time
from pathlib import Path
from typing import Final

#: Enough for a 99th percentile that isn't the slowest write; a fraction of a second on a fast disk.
_WRITES: Final = 200
#: About as many bytes as one commit of a few messages writes.
_BYTES: Final = 4096


def fsync_seconds(folder: Path, longest: float) -> list[float]:
    """Write to a new file in the folder and have it synced, again and again.

    Returns the seconds of each sync, at least two; a slow disk is measured with fewer writes, for
    some `longest` seconds. Raises OSError.
    """
    path = folder / f".fsync-{os.getpid()}"
    times: list[float] = []
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        end = time.monotonic() + longest
        while len(times) < _WRITES and (len(times) < 2 or time.monotonic() < end):
            os.write(descriptor, bytes(_BYTES))
            began = time.monotonic()
            os.fdatasync(descriptor)
            times.append(time.monotonic() - began)
    finally:
        os.close(descriptor)
        path.unlink()
    return times


def percentile(values: list[float], share: float) -> float:
    """Return the value below which `share` (0 to 1) of them are."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
