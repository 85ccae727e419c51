"""Finds processes that are there and do nothing, by pulses that stand still.

A pulse is judged by whether it moves between two looks, and only time in which the listener itself
ran counts. So a paused container, a machine that slept or a disk that stalled every process makes
no process look hung.
"""

import os
from collections.abc import Iterable
from typing import Final

from appliance.machine.signs import Sign

#: Seconds between two looks count as this at most: for longer, the looker was not there either.
_LONGEST_STEP: Final = 10.0
#: A process that never beat yet is starting: it has this many times as long.
_START_FACTOR: Final = 3


class Hangs:
    """Looks at all pulses again and again; `limit` is in seconds."""

    def __init__(self, limit: float, own_pid: int | None = None) -> None:
        self._limit = limit
        self._own_pid = own_pid or os.getpid()
        self._last: float | None = None
        self._still: dict[int, tuple[int, float]] = {}  # pid -> beats, seconds without a new one

    def look(self, now: float, signs: Iterable[Sign]) -> list[Sign]:
        """Return the signs of hung processes, at each look until they end. `now` is monotonic."""
        step = min(now - self._last, _LONGEST_STEP) if self._last is not None else 0.0
        self._last = now
        hung, earlier, self._still = [], self._still, {}
        signs = list(signs)
        for sign in signs:
            beats, still = earlier.get(sign.pid, (-1, 0.0))
            still = still + step if beats == sign.beats and sign.state != "stopping" else 0.0
            self._still[sign.pid] = sign.beats, still
            if still >= self._limit * (1 if sign.beats else _START_FACTOR):
                hung.append(sign)
        own = self._still.get(self._own_pid)
        if own is None or own[1]:
            # Our own pulse stands still as well, so pulses can't be written at all.
            self._still = {pid: (beats, 0.0) for pid, (beats, _) in self._still.items()}
            return []
        return hung
