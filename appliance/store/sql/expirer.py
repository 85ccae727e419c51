"""Deletes messages that are over, in transactions so short that the worker hardly notices.

Those of the last minute stay, hidden: they can be delivered again, and would be stored again. So
does a row that a trigger of someone else's keeps from being deleted.
"""

import json
import time
from typing import Final, NamedTuple

from appliance.model import timestamps
from appliance.store.base import Rest
from appliance.store.sql.database import SqlDatabase, SqlWork
from appliance.store.sql.short_deletes import FRESH_SECONDS, Deletable, ShortDeletes, within
from appliance.store.sql.sweeper import Swept

#: Rows that triggers may refuse to delete in one sweep.
_MOST_REFUSED: Final = 1000

_OVER: Final = """
    SELECT e.seq, e.expires_at, m.topic, {bytes}, m.received_at
    FROM expirations AS e LEFT JOIN messages AS m ON m.seq = e.seq
    WHERE (e.expires_at, e.seq) > (?, ?) AND e.expires_at <= ?
    ORDER BY e.expires_at, e.seq LIMIT ?
"""
#: The time of a message that is gone, by whatever way; one that a trigger has kept stays hidden.
_FORGET: Final = """
    DELETE FROM expirations WHERE seq IN ({seqs})
    AND NOT EXISTS (SELECT 1 FROM messages WHERE messages.seq = expirations.seq)
"""


class _Over(NamedTuple):
    """A message that is over; of one that is gone only the first two are there."""

    seq: int
    expires_at: str
    topic: str | None
    size: int
    received_at: str


class Expirer:
    """Deletes from the database at `path`; used by one thread."""

    def __init__(self, database: SqlDatabase, rest: Rest) -> None:
        self._database = database
        self._rest = rest
        words = database.words
        self._over = _OVER.format(bytes=words.body_bytes)
        self._forget = _FORGET.format(seqs=words.numbers_of("?"))
        self._deletes = ShortDeletes(database.words, rest)

    def sweep(self) -> Swept:
        """Delete the messages that are over. Raises StoreError."""
        began, deletes = time.monotonic(), self._deletes
        deletes.begin()
        with self._database.working(self._rest) as connection:
            self._sweep(connection)
            if deletes.rows:
                deletes.shrink(connection)
        seconds = time.monotonic() - began
        return Swept(deletes.rows, deletes.bytes, deletes.pages, seconds, deletes.longest_hold)

    def _sweep(self, connection: SqlWork) -> None:
        now = time.time()
        fresh, until = timestamps.timestamp(now - FRESH_SECONDS), timestamps.timestamp(now)
        place = ("", 0)
        while self._deletes.refused <= _MOST_REFUSED:
            chunk = self._deletes.chunk
            found = connection.execute(self._over, (*place, until, chunk)).fetchall()
            rows = list(map(_Over._make, found))
            if not rows:
                return
            place = (rows[-1].expires_at, rows[-1].seq)
            old = [row for row in rows if row.topic is None or row.received_at < fresh]
            if old and self._delete(connection, old):
                return

    def _delete(self, connection: SqlWork, rows: list[_Over]) -> bool:
        """Delete messages, and their times with them; return whether to stop."""
        by_topic: dict[str, list[Deletable]] = {}
        for row in rows:
            if row.topic is not None:
                deletable = Deletable(row.seq, row.size, row.received_at)
                by_topic.setdefault(row.topic, []).append(deletable)
        is_stopped = False
        for topic, wanted in by_topic.items():
            left = wanted
            while left and not is_stopped:
                part = within(left)
                left = left[len(part) :]
                seqs = [each.seq for each in part]
                is_stopped = self._deletes.delete(connection, topic, seqs, learn=True)
        gone = json.dumps([row.seq for row in rows])
        self._deletes.hold(connection, lambda: connection.execute(self._forget, (gone,)))
        return is_stopped
