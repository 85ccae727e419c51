"""How long the disk takes to confirm that a write is on it."""

import os
import time
from pathlib import Path
from typing import Final

#: Enough for a 99th percentile that isn't the slowest write; a fraction of a second on a fast disk.
_WRITES: Final = 200
#: Seconds; a slow disk (10 ms and more) is measured with fewer.
_LONGEST: Final = 5.0
#: About what one commit of a few messages writes.
_BYTES: Final = 4096


def fsync_seconds(folder: Path) -> list[float]:
    """Append to a file in the folder and have it flushed, again and again; return each's seconds.

    Raises OSError.
    """
    path = folder / "fsync"
    times: list[float] = []
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        end = time.monotonic() + _LONGEST
        while len(times) < _WRITES and time.monotonic() < end:
            os.write(descriptor, bytes(_BYTES))
            began = time.monotonic()
            os.fsync(descriptor)
            times.append(time.monotonic() - began)
    finally:
        os.close(descriptor)
        path.unlink()
    return times


def percentile(values: list[float], share: float) -> float:
    """Return the value below which `share` (0 to 1) of them are."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
