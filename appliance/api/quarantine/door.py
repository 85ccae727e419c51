"""The door of the quarantine: how much may go in, from one address or topic and from all.

The store holds the quarantine to its size, a few seconds later. This keeps what can come in between
small, and keeps whoever knows one address from filling the queue with messages that will be thrown
away again.
"""

import time
from collections.abc import Callable
from typing import Final

from appliance.config import Config
from appliance.errors import QuarantineFullError

#: Part of the quarantine's bytes that one source can put in in a minute; all together: all.
_SHARE: Final = 4
_MINUTE: Final = 60.0


class _Bucket:
    """Holds as much as comes in a minute, and is filled evenly."""

    __slots__ = ("_at", "_left", "_most")

    def __init__(self, most: float, now: float) -> None:
        self._most = self._left = most
        self._at = now

    def has(self, amount: float, now: float) -> bool:
        """Whether there is room; one that is larger than the bucket needs all of it."""
        self._left = min(self._most, self._left + (now - self._at) * self._most / _MINUTE)
        self._at = now
        return self._left >= min(amount, self._most)

    def take(self, amount: float) -> None:
        self._left -= min(amount, self._most)


class QuarantineDoor:
    """Used on the event loop. There are never more sources than addresses and schemas were made."""

    def __init__(self, config: Config, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = config.quarantine_rate
        self._bytes = config.quarantine_bytes
        self._clock = clock
        self._all = _Bucket(self._bytes, clock())
        self._sources: dict[str, tuple[_Bucket, _Bucket]] = {}
        #: Messages that went in, and that were refused here, since the process started.
        self.kept = 0
        self.refused = 0

    def admit(self, source: str, letters: int, size: int) -> None:
        """Let letters of so many bytes in. Raises QuarantineFullError where they are too many."""
        now = self._clock()
        if source not in self._sources:
            self._sources[source] = _Bucket(self._rate, now), _Bucket(self._bytes / _SHARE, now)
        count, volume = self._sources[source]
        if not (count.has(letters, now) and volume.has(size, now) and self._all.has(size, now)):
            self.refused += letters
            raise QuarantineFullError(
                f"the {source} has put as much into the quarantine as it may in a minute; nothing "
                "was kept"
            )
        count.take(letters)
        volume.take(size)
        self._all.take(size)
        self.kept += letters
