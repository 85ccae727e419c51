"""Columns that a list suggests: values that most of a topic's newest JSON bodies have."""

import threading
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from appliance.model.shape import KeyShape, shape_of
from appliance.store.base import Reader
from appliance.store.rows import Window

#: Messages that are looked at, and bytes of their bodies: some milliseconds' work.
_LOOKED_AT: Final = 1000
_LOOKED_AT_BYTES: Final = 2**19
#: Seconds for which what was found holds, and topics of which it is kept.
_FRESH_SECONDS: Final = 60.0
_MOST_TOPICS: Final = 256
#: Columns that are suggested, and characters of one.
_MOST: Final = 8
_LONGEST: Final = 60


class Suggested(NamedTuple):
    """Columns in the order in which bodies have them; `looked_at` messages have told."""

    columns: tuple[str, ...] = ()
    looked_at: int = 0


class Suggestions:
    """Used by any thread; one for each API process."""

    def __init__(self, reader: Reader, clock: Callable[[], float] = time.monotonic) -> None:
        self._reader = reader
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, Suggested]] = {}

    def of(self, topic: str) -> Suggested:
        """Return the columns for a topic, as they were at most a minute ago. Raises StoreError."""
        now = self._clock()
        with self._lock:
            known = self._known.get(topic)
        if known is not None and now - known[0] < _FRESH_SECONDS:
            return known[1]
        found = self._look(topic)
        with self._lock:
            self._known.pop(topic, None)
            if len(self._known) >= _MOST_TOPICS:
                del self._known[next(iter(self._known))]  # the oldest
            self._known[topic] = now, found
        return found

    def _look(self, topic: str) -> Suggested:
        rows = self._reader.page(Window(topic), _LOOKED_AT, _LOOKED_AT_BYTES).rows
        shape = shape_of(row.body for row in rows)
        found = [key.path for key in shape.keys.values() if _is_of_use(key, len(rows))]
        return Suggested(tuple(found[:_MOST]), len(rows))


def _is_of_use(key: KeyShape, bodies: int) -> bool:
    """Whether more than half of the bodies have a value there that fits into a cell."""
    values = sum(count for kind, count in key.kinds.items() if kind not in ("array", "object"))
    return 2 * values > bodies and len(key.path) <= _LONGEST and "," not in key.path
