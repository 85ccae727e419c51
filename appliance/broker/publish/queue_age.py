"""How long the oldest envelope has waited in the queue, as its publisher can tell. Pure.

The queue is in order. So the oldest of `depth` envelopes that wait is the `depth`-th last one that
was confirmed, and the publisher notes now and then how many were confirmed by when. Other clients
publish too, and another process has before: the oldest has at most waited since the queue was last
seen empty.
"""

from collections import deque
from typing import Final

#: Notes that are kept: one a second, and of a queue that is deep for longer every second one.
_MOST: Final = 4096


class QueueAge:
    """`clock` times are seconds."""

    def __init__(self, now: float) -> None:
        self._notes: deque[tuple[float, int]] = deque([(now, 0)])
        self._empty_at = now
        self._depth = 0

    def note(self, now: float, depth: int, confirmed: int) -> None:
        """Note the queue's depth, and how many envelopes were confirmed since the start."""
        self._depth = depth
        if depth == 0:
            self._empty_at = now
        notes = self._notes
        notes.append((now, confirmed))
        while len(notes) > 1 and notes[1][1] < confirmed - depth + 1:
            notes.popleft()
        if len(notes) > _MOST:
            self._notes = deque(list(notes)[::2])

    def seconds(self, now: float) -> float:
        """Return the age of the oldest envelope; 0 where none waits."""
        if not self._depth:
            return 0.0
        return max(0.0, now - max(self._empty_at, self._notes[0][0]))
