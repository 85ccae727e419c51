"""Delayed messages: the thread of each worker that makes rows of those that are due.

It also looks, now and then, for messages that wait for a handler that the settings name no more.

All workers look, once a second, by a read that finds the first one in an index; the one that sees a
due message first stores it. Taking it from those that wait and storing it are one transaction, so
it becomes one row whichever worker does it, and whoever is killed meanwhile.
"""

import time
from collections.abc import Callable
from typing import Any, Final

import structlog

from appliance.lookout import Lookout
from appliance.machine.complaint import Complaint
from appliance.machine.ticks import until_tick
from appliance.model import timestamps
from appliance.model.contents import DueMessages
from appliance.model.handler_outcomes import ReleasedMessages
from appliance.store.base import Delayed, Writer
from appliance.store.handler_rows import Handling

#: Seconds between two looks: by so much, and a commit, a message can become a row late.
_LOOK_SECONDS: Final = 1.0
#: Seconds between two looks for messages whose handler is none any more.
_STRAYS_SECONDS: Final = 60.0

_log: Any = structlog.get_logger(__name__)


class DelayedMover(Lookout):
    """Moves messages that are due, in a thread of the worker, once `wake` was called."""

    def __init__(
        self, delayed: Delayed, open_writer: Callable[[], Writer], handling: Handling
    ) -> None:
        super().__init__(
            Complaint(
                _log, "storing delayed messages failed", "storing delayed messages works again"
            )
        )
        self._delayed = delayed
        self._handling = handling
        self._strays_at = 0.0
        self._open_writer = open_writer

    def _look(self) -> float:
        self._move()
        self._release()
        return until_tick(_LOOK_SECONDS)

    def _close(self) -> None:
        self._delayed.look_away()
        self._handling.close()

    def _move(self) -> None:
        """Make rows of all messages that are due, some in each transaction."""
        while not self._stopping.is_set() and self._delayed.is_any_due(at := timestamps.now()):
            self._store(DueMessages(at))

    def _release(self) -> None:
        """Let go of messages that wait for a handler that is none any more."""
        if time.monotonic() < self._strays_at:
            return
        while not self._stopping.is_set() and self._handling.has_strays():
            self._store(ReleasedMessages())
        self._strays_at = time.monotonic() + _STRAYS_SECONDS

    def _store(self, content: DueMessages | ReleasedMessages) -> None:
        writer = self._open_writer()
        try:
            writer.store([content])
        finally:
            writer.close()
