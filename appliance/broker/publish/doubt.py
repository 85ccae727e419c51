"""How long a publisher has had reason to doubt that its node of a cluster takes messages. Pure.

A node that is cut off from the others takes connections and messages, and confirms none. Only some
seconds tell it from one that waits for a new leader. The doubt outlasts a change of nodes, so that
a load balancer sees one long "no" and not many short ones.
"""

import time
from collections.abc import Callable
from typing import Final

#: Seconds without a confirm of the oldest envelope, after which another node is tried; and the one
#: after that, as it is perhaps the queue that has no leader.
LEAVE: Final = 3.0
LEAVE_NEXT: Final = 6.0


class Doubt:
    """The time without an answer; `clock` is monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._answered = 0
        self._since: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds for which nothing was answered though something waited; 0 without doubt."""
        return 0.0 if self._since is None else self._clock() - self._since

    def look(self, answered: int, *, waiting: bool) -> None:
        """Take how many envelopes the broker has answered so far, and whether any waits."""
        if answered != self._answered:
            self._answered, self._since = answered, None
        elif waiting and self._since is None:
            self._since = self._clock()

    def reached(self) -> None:
        """The queue's leader answered something else, and nothing waits for it."""
        self._since = None
