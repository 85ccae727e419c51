"""Keeps the authorizer's snapshot as the store has it, and notes in the store who was there.

A thread asks the store twice a second whether anything has changed: one read of one row. So a
token that was revoked, by whatever way, is refused within a second on every connection.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import structlog

from appliance.auth.authorizer import Authorizer
from appliance.auth.siblings import Siblings
from appliance.auth.snapshot import AccessSnapshot
from appliance.errors import StoreError
from appliance.machine.complaint import Complaint
from appliance.machine.pulse import Pulse
from appliance.machine.ticks import until_tick
from appliance.model import timestamps
from appliance.store.base import Access

#: Seconds between two looks at the version.
_LOOK_SECONDS: Final = 0.5
#: Seconds between two notes of the last uses: one small write, without an fsync.
_NOTE_SECONDS: Final = 5.0
#: Seconds that a stop waits for the thread.
_STOP_SECONDS: Final = 2.0

_log: Any = structlog.get_logger(__name__)


class AccessRefresher:
    """One for each API process; `siblings` are the others on this host, if there are any."""

    def __init__(
        self, access: Access, authorizer: Authorizer, siblings: Siblings | None = None
    ) -> None:
        self._access = access
        self._authorizer = authorizer
        self._siblings = siblings
        self._refreshing = threading.Lock()
        self._stopping = threading.Event()
        self._reading = Complaint(_log, "tokens not readable", "tokens readable again")
        self._noting = Complaint(_log, "last uses not noted", "last uses noted again")

    @contextmanager
    def running(self, pulse: Pulse) -> Iterator[None]:
        """Look for changes within the block; before it begins, the snapshot is read if it can be.

        The last uses are noted at the end. By the pulse the siblings are told of each look.
        """
        if self._siblings is not None:
            self._siblings.begin(pulse)
        self._look()
        thread = threading.Thread(target=self._run, name="access", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            thread.join(_STOP_SECONDS)

    def refresh(self) -> None:
        """Take over what has changed; what the caller wrote counts when this returns.

        It counts at every API process of this host, but for one that does not answer for seconds.
        Raises StoreError.
        """
        self._take_over()
        if self._siblings is not None:
            self._siblings.wait_for(self._authorizer.snapshot.version)

    def _take_over(self) -> None:
        with self._refreshing:
            snapshot = self._authorizer.snapshot
            if (
                not self._authorizer.is_loaded
                or not snapshot.holds_at(time.time())
                or self._access.version() != snapshot.version
            ):
                self._authorizer.put(AccessSnapshot.of(self._access.rows(), time.time()))
        if self._siblings is not None:
            self._siblings.tell(self._authorizer.snapshot.version)

    def _run(self) -> None:
        noted = time.monotonic()
        while not self._stopping.wait(until_tick(_LOOK_SECONDS)):
            self._look()
            if time.monotonic() - noted >= _NOTE_SECONDS:
                noted = time.monotonic()
                self._note()
        self._note()

    def _look(self) -> None:
        try:
            self._take_over()
        except StoreError as error:
            self._reading.fails(error=str(error))
        else:
            self._reading.works()

    def _note(self) -> None:
        extensions = self._authorizer.take_extensions()
        tokens, inboxes = self._authorizer.take_uses()
        if not tokens and not inboxes and not extensions:
            return
        try:
            if tokens or inboxes:
                self._access.note_uses(_texts(tokens), _texts(inboxes))
            if extensions:
                times = timestamps.timestamp
                self._access.extend_sessions(
                    {
                        digest: (times(used), times(end))
                        for digest, (used, end) in extensions.items()
                    }
                )
        except StoreError as error:
            self._noting.fails(error=str(error))
        else:
            self._noting.works()


def _texts(uses: dict[str, float]) -> dict[str, str]:
    return {name: timestamps.timestamp(at) for name, at in uses.items()}
