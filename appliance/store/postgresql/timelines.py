"""Timelines: by which an old primary that came back is told from the one that took its place.

A standby that is promoted begins a new timeline, a number greater than every earlier one. The
primary before it knows nothing of that. So the newest timeline that was seen is remembered, in this
process and in a file of the data folder, for those that start later.
"""

import contextlib
import math
import os
import threading
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import psycopg

from appliance.machine import files

#: Seconds between two looks at the file, which another process can have written.
_LOOK: Final = 1.0
#: Bytes of the file that are read.
_MOST_BYTES: Final = 100
_ASK: Final = """
    SELECT system_identifier, CASE WHEN NOT pg_is_in_recovery() THEN
        ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint
    END FROM pg_control_system()
"""
#: SQLSTATEs of servers that let nobody ask, as some that are hosted do.
_UNTOLD: Final = ("42501", "42883", "0A000")


class Timeline(NamedTuple):
    """A primary's place in the history of its cluster, which has a name of its own."""

    cluster: int
    number: int


def ask(connection: Any) -> Timeline | None:
    """Return the timeline of a primary; None where the server is none, or does not tell."""
    try:
        cluster, number = connection.execute(_ASK).fetchone()
    except psycopg.Error as error:
        if error.sqlstate in _UNTOLD:
            return None
        raise
    return None if number is None else Timeline(cluster, number)


class NewestTimelines:
    """The newest timeline of each cluster that was seen; used by any thread.

    Of the cluster that was used last it is in the file at `path` too; None: in no file.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._numbers: dict[int, int] = {}
        self._due = 0.0

    def note(self, seen: Timeline | None) -> None:
        """Remember a timeline that was seen, unless a newer one is known."""
        if seen is None or self.newest(seen) >= seen.number:
            return
        with self._lock:
            if self._numbers.get(seen.cluster, 0) >= seen.number:
                return  # another thread was quicker
            self._numbers[seen.cluster] = seen.number
            if self.path is not None:
                # Without it, processes that start later look at all hosts as this one did.
                with contextlib.suppress(OSError), files.replaced(self.path) as file:
                    file.write(b"%d %d\n" % seen)

    def newest(self, of: Timeline) -> int:
        """Return the number of the newest timeline of a cluster; 0: none was seen."""
        if time.monotonic() >= self._due:
            self._read()
        return self._numbers.get(of.cluster, 0)

    def age(self) -> float:
        """Return how many seconds ago a process of this data folder has asked the hosts last."""
        if self.path is not None:
            with contextlib.suppress(OSError):
                age = time.time() - self.path.stat().st_mtime
                return age if age >= 0.0 else math.inf
        return math.inf

    def freshen(self) -> None:
        """Say to the other processes of this data folder that the hosts were asked."""
        if self.path is not None:
            with contextlib.suppress(OSError):
                os.utime(self.path)

    def is_old(self, seen: Timeline | None) -> bool:
        """Whether a newer timeline is known."""
        return seen is not None and self.newest(seen) > seen.number

    def _read(self) -> None:
        self._due = time.monotonic() + _LOOK
        if self.path is None:
            return
        with contextlib.suppress(OSError, ValueError):
            with self.path.open("rb") as file:
                cluster, number = map(int, file.read(_MOST_BYTES).split())
            with self._lock:
                self._numbers[cluster] = max(number, self._numbers.get(cluster, 0))
