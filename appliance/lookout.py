"""A lookout: a thread of the worker that looks for work in the database, again and again."""

import abc
import threading
from typing import Final

from appliance.errors import StoreError
from appliance.machine.complaint import Complaint

#: Seconds between attempts where the database can't be used: doubled from the first to the last.
_BACKOFF_FIRST: Final = 0.5
_BACKOFF_LAST: Final = 30.0


class Lookout(abc.ABC):
    """Looks once `wake` was called, until `stop`; `complaint` tells that the database fails."""

    def __init__(self, complaint: Complaint) -> None:
        self._awake = threading.Event()
        self._stopping = threading.Event()
        self._complaint = complaint

    def wake(self) -> None:
        """Say that the database is there. Any thread."""
        self._awake.set()

    def stop(self) -> None:
        """Have `run` end soon. Any thread."""
        self._stopping.set()
        self._awake.set()

    def run(self) -> None:
        """Look and work until `stop`; then nothing of the database is open any more."""
        self._awake.wait()
        delay = _BACKOFF_FIRST
        try:
            while not self._stopping.is_set():
                try:
                    pause = self._look()
                except StoreError as error:
                    self._complaint.fails(error=str(error))
                    self._stopping.wait(delay)
                    delay = min(2 * delay, _BACKOFF_LAST)
                else:
                    self._complaint.works()
                    delay = _BACKOFF_FIRST
                    self._stopping.wait(pause)
        finally:
            self._close()

    @abc.abstractmethod
    def _look(self) -> float:
        """Do what is to be done, and return the seconds until the next look. Raises StoreError.

        It ends soon once `_stopping` is set.
        """

    @abc.abstractmethod
    def _close(self) -> None:
        """Close what the thread's looks keep open."""
