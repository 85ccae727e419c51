"""The janitor's duty for what is remembered of handled messages: it is bounded by its age."""

import time
from typing import Any, Final

import structlog

from appliance.machine.complaint import Complaint
from appliance.model import timestamps
from appliance.store.base import Duty, Rest
from appliance.store.handler_rows import Handling

#: Seconds between two looks.
_EVERY: Final = 600.0
_RETRY: Final = 60.0
#: Messages that one transaction forgets, and seconds between two of them.
_AT_ONCE: Final = 2000
_PAUSE: Final = 0.1

_log: Any = structlog.get_logger(__name__)


class HandledMemory:
    """Forgets messages that were handled `age` seconds ago (0: none); used by one thread."""

    def __init__(self, handling: Handling, age: float, rest: Rest) -> None:
        self._handling = handling
        self._age = age
        self._rest = rest

    def duty(self) -> Duty:
        """Return the janitor's duty."""
        complaint = Complaint(_log, "handled messages not forgotten", "handled messages forgotten")
        return Duty(self.forget, _RETRY, complaint)

    def forget(self) -> float:
        """Forget what is too old; return the seconds until the next look. Raises StoreError."""
        if self._age:
            before = timestamps.timestamp(time.time() - self._age)
            while self._handling.forget(before, _AT_ONCE) and not self._rest(_PAUSE):
                pass
        self._handling.close()
        return _EVERY
