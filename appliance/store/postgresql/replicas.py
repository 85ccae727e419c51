"""Connections to copies of the database, which are read only where they show all that is stored.

A copy (a standby of PostgreSQL) follows the primary, some milliseconds late or as long as something
holds it. A client who was told that a message is stored may ask any process of any host for it, and
must get it. So before each read the primary is asked for the message stored last, which costs next
to nothing; a copy that has it is read, and the primary in place of one that does not have it soon.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import structlog

from appliance.errors import StoreError
from appliance.machine.complaint import Complaint
from appliance.store.postgresql.connections import PostgresConnection
from appliance.store.postgresql.hosts import Hosts
from appliance.store.postgresql.reads import PostgresReads
from appliance.store.postgresql.sql_database import WORDS

#: Seconds for which a read waits for a copy to show what is stored, and between two looks.
_PATIENCE: Final = 0.1
_LOOK: Final = 0.005
#: Seconds for which a copy that can't be reached is left alone.
_LEFT_ALONE: Final = 5.0

_LAST: Final = f"SELECT {WORDS.last_seq}"

_log: Any = structlog.get_logger(__name__)


class ReplicaConnections:
    """A connection for each thread to a copy at `url`, and one to the primary."""

    def __init__(self, url: str, primary: PostgresReads) -> None:
        self._copies = PostgresReads(Hosts(url, copies=True))
        self._primary = primary
        self._complaint = Complaint(_log, "copy of the database unreadable", "copy is read again")
        self._lock = threading.Lock()
        self._left_alone_until = 0.0

    def close(self) -> None:
        """Close every thread's connection to a copy; one that is in use, after its use."""
        self._copies.close()

    @contextmanager
    def reading(self) -> Iterator[PostgresConnection]:
        """Lend a connection that shows all that is stored now, to a short read."""
        with self._primary.reading() as primary:
            last = int(primary.execute(_LAST).fetchone()[0])
            if not self._is_shown(last):
                yield primary
                return
        with self._copies.reading() as connection:
            yield connection

    def _is_shown(self, last: int) -> bool:
        """Whether the copy that this thread reads has the message stored last, or has it soon."""
        if time.monotonic() < self._left_alone_until:
            return False
        end = time.monotonic() + _PATIENCE
        try:
            with self._copies.reading() as connection:
                while int(connection.execute(_LAST).fetchone()[0]) < last:
                    if time.monotonic() > end:
                        return False
                    time.sleep(_LOOK)
        except StoreError as error:
            self._left_alone_until = time.monotonic() + _LEFT_ALONE
            with self._lock:
                self._complaint.fails(error=str(error))
            return False
        if self._complaint.is_open:
            with self._lock:
                self._complaint.works()
        return True
