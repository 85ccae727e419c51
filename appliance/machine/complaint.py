"""Complain once, and say when it is over.

What fails is tried again, several times a second perhaps; the log must say so once for each trouble
and once more when the trouble has ended.
"""

import time
from typing import Any


class Complaint:
    """One thing that can fail, and what the log was told of it. Used by one thread at a time.

    `failing` and `works` are the log's events: short stable names.
    """

    def __init__(self, log: Any, failing: str, works: str, *, level: str = "warning") -> None:
        self._log = log
        self._failing = failing
        self._works = works
        self._level = level
        self._kind = ""
        self._since = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the last attempt failed."""
        return bool(self._kind)

    def fails(self, *, kind: str = "failing", level: str | None = None, **values: Any) -> None:
        """Log the failure with `values`, unless the last one was of the same `kind`."""
        if not self._kind:
            self._since = time.monotonic()
        if kind != self._kind:
            self._kind = kind
            getattr(self._log, level or self._level)(self._failing, **values)

    def works(self, **values: Any) -> None:
        """Log, at level info, that it works again and after how many seconds, if it failed."""
        if self._kind:
            self._kind = ""
            seconds = round(time.monotonic() - self._since, 1)
            self._log.info(self._works, after_seconds=seconds, **values)
