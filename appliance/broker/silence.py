"""Silence: when nothing has come from a node for so long that another one is better. Pure.

A cut network ends no connection: only what doesn't come any more tells. A node that is asked each
second answers within milliseconds, also while a queue of its cluster has no leader. One with an
alarm doesn't read what is asked, but its heartbeats come.
"""

import time
from collections.abc import Callable
from typing import Final

#: Seconds without a byte, from which on a node is asked, and left.
_ASK: Final = 0.9
_LEAVE: Final = 4.0
#: The same under an alarm: RabbitMQ's heartbeats are at most 5 s apart then.
_LEAVE_BLOCKED: Final = 7.5
#: Seconds between two looks that are no pause of this process.
_LONGEST_STEP: Final = 2.0


class Silence:
    """The silence of one connection; `clock` is monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._looked_at = self._since = clock()
        self._received = -1

    def look(self, received: int) -> float:
        """Take how many bytes have come by now; return for how many seconds none has.

        Called several times a second; time in which this process was stopped too doesn't count.
        """
        now = self._clock()
        if now - self._looked_at > _LONGEST_STEP:
            self._since += now - self._looked_at
        self._looked_at = now
        if received != self._received:
            self._received, self._since = received, now
        return now - self._since


def is_worth_asking(seconds: float) -> bool:
    """Whether a node that has said nothing for so long is to be asked for a sign of life."""
    return seconds >= _ASK


def is_worth_leaving(seconds: float, *, blocked: bool) -> bool:
    """Whether a node that has said nothing for so long is to be left."""
    return seconds >= (_LEAVE_BLOCKED if blocked else _LEAVE)
