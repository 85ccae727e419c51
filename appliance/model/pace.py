"""The pace of a worker: how long it gathers messages before it stores them. No I/O.

What a transaction costs, it costs once: an fsync, the pages that it changes, and of these one for
each topic. Storing 24 messages of 24 topics alone takes 28 us of CPU a message, with the messages
of five more such envelopes 12. So while many messages come, transactions begin some milliseconds
apart. While few come, each is stored at once.
"""

from typing import Final

#: Messages a second from which on many come.
_MANY_A_SECOND: Final = 2000
#: Messages beyond that rate, after which many come; and that are counted at most, so that it is
#: over soon after the last one.
_SOME: Final = 16
_MOST: Final = 64
#: Seconds from the begin of a transaction to that of the next, while many come.
APART_SECONDS: Final = 0.01
#: Bytes of a transaction that is worth its cost by itself.
_ENOUGH_BYTES: Final = 64 * 1024


class WritePace:
    """The messages that were stored lately, and when."""

    def __init__(self) -> None:
        self._excess = 0.0  # messages that came beyond the rate
        self._began = 0.0
        self._was_enough = False

    def begin(self, now: float, messages: int, size: int) -> None:
        """Note that a transaction begins, of so many messages and bytes."""
        left = self._excess - (now - self._began) * _MANY_A_SECOND
        self._excess = min(max(0.0, left) + messages, _MOST)
        self._began, self._was_enough = now, size >= _ENOUGH_BYTES

    def wait(self, now: float) -> float:
        """Return for how many seconds to gather more before the next transaction; 0: not at all."""
        since = now - self._began
        if self._was_enough or self._excess - since * _MANY_A_SECOND < _SOME:
            return 0.0
        return max(0.0, APART_SECONDS - since)
