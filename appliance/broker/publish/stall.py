"""How long the queue of messages has not served, though the broker takes connections.

RabbitMQ can give up one queue and keep the others, the probe's among them. The publisher sees it:
an envelope gets no answer, or the queue can't be opened. No I/O: the publisher says what it sees.
"""

import time
from collections.abc import Callable
from typing import Final

#: Seconds between two looks that are no pause of this process.
_LONGEST_STEP: Final = 2.0


class Stall:
    """The time without service; `clock` is monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._oldest = 0
        self._looked_at = clock()
        self._since: float | None = None
        self._opening_failed_at: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds for which the queue has not served; 0 while it serves, or is not asked to."""
        began = self._opening_failed_at if self._since is None else self._since
        return 0.0 if began is None else self._clock() - began

    @property
    def reason(self) -> str:
        """What is missing, in a few words; empty while it serves."""
        if self._since is not None:
            return "no confirm of an envelope"
        return "" if self._opening_failed_at is None else "the queue can't be opened"

    def look(self, oldest: int) -> None:
        """Take the tag of the oldest unconfirmed envelope; 0 where no answer can be expected.

        Called many times a second; time in which this process was stopped too does not count.
        """
        now = self._clock()
        if self._since is not None and now - self._looked_at > _LONGEST_STEP:
            self._since += now - self._looked_at
        self._looked_at = now
        if oldest != self._oldest or not oldest:
            self._oldest = oldest
            self._since = now if oldest else None

    def opening_failed(self) -> None:
        """The broker took the connection, and the queue could not be opened."""
        if self._opening_failed_at is None:
            self._opening_failed_at = self._clock()

    def opened(self) -> None:
        """The queue is open on a new connection."""
        self._opening_failed_at = None

    def away(self) -> None:
        """The broker takes no connection: that is no fault of the queue's."""
        self._opening_failed_at = None
        self.look(0)
