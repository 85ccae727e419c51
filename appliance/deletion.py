"""Deletion of messages: how the API asks for it, and the thread of the worker that does it.

The API writes an order into the store, with its entry in the audit trail, and then puts the order's
mark into the queue, behind all that was sent before. The worker stores what comes before the mark,
notes that the mark came, and deletes beside storing. Whoever is killed meanwhile: an order whose
mark is in the queue is done.
"""

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import structlog

from appliance.errors import RefusedError, StoreError
from appliance.machine.complaint import Complaint
from appliance.model import timestamps
from appliance.model.ids import IdSource
from appliance.store.access_rows import Actor, Deed
from appliance.store.base import Deletions, Rest
from appliance.store.deletion_rows import QUEUED, Counted, DeletionRow, Selection

#: Seconds for which messages are counted before a deletion.
_COUNT_SECONDS: Final = 2.0
#: Seconds between attempts to delete: doubled from the first to the last.
_BACKOFF_FIRST: Final = 0.5
_BACKOFF_LAST: Final = 30.0
#: Deletions that are listed.
_LISTED: Final = 100

_log: Any = structlog.get_logger(__name__)


class DeletionDesk:
    """Takes orders to delete messages; used by any thread of the API.

    `mark` returns when the broker has the mark of a deletion with this id on disk, or raises
    BrokerError.
    """

    def __init__(self, deletions: Deletions, mark: Callable[[str], None]) -> None:
        self._deletions = deletions
        self._mark = mark
        self._ids = IdSource()

    def ask(self, selection: Selection, by: Actor) -> DeletionRow:
        """Order the deletion of messages that were received up to now; return it.

        Raises RefusedError where it was not ordered, DeadlineError where it may have been,
        LimitError for too many, StoreError.
        """
        row = DeletionRow(self._ids.new(), QUEUED, selection, timestamps.now(), by, 0, 0, 0, None)
        target = selection.topic or selection.id or ""
        self._deletions.ask(row, Deed(by, "message-delete", target, f"{row.id}: {selection}"))
        try:
            self._mark(row.id)
        except RefusedError:
            with contextlib.suppress(StoreError):  # without its mark nothing is done for it
                self._deletions.cancel(row.id)
            raise
        while timestamps.now() <= row.asked_at:  # so that what is sent after this is later
            time.sleep(0.001)
        return row

    def find(self, deletion_id: str) -> DeletionRow | None:
        """Return the deletion with this id, or None."""
        return self._deletions.find(deletion_id)

    def newest(self) -> list[DeletionRow]:
        """Return the newest deletions."""
        return self._deletions.newest(_LISTED)

    def count(self, selection: Selection) -> Counted:
        """Return how many stored messages are selected, as far as they are counted in time."""
        return self._deletions.count(selection, _COUNT_SECONDS)


class Deleter:
    """Deletes in a thread of the worker; `work` does what is to be done, until it says to stop."""

    def __init__(self, work: Callable[[Rest], None]) -> None:
        self._work = work
        self._awake = threading.Event()
        self._stopping = threading.Event()
        self._complaint = Complaint(_log, "deleting failed", "deleting works again")

    def wake(self) -> None:
        """Say that there is something to do. Any thread."""
        self._awake.set()

    def stop(self) -> None:
        """Have `run` end soon."""
        self._stopping.set()
        self._awake.set()

    def run(self) -> None:
        """Work until `stop`."""
        delay = _BACKOFF_FIRST
        while True:
            self._awake.wait()
            if self._stopping.is_set():
                return
            self._awake.clear()
            try:
                self._work(self._stopping.wait)
            except StoreError as error:
                self._complaint.fails(error=str(error))
                self._stopping.wait(delay)
                delay = min(2 * delay, _BACKOFF_LAST)
                self._awake.set()
            else:
                self._complaint.works()
                delay = _BACKOFF_FIRST
