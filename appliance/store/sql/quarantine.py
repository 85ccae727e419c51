"""The quarantine: dead letters with a budget of their own, which strangers may fill.

The members of their meta say for whom they are kept (`quarantine`: an inbox address or a topic).
Above the budget, whoever has the most loses its oldest letters first, down to the level of the
others: who fills the quarantine can't push out the letters of anyone else, nor any other dead
letter.
"""

import time
from typing import Any, Final

import structlog

from appliance.machine.complaint import Complaint
from appliance.model import timestamps
from appliance.store.base import Duty, Rest
from appliance.store.rows import QuarantineTotals
from appliance.store.sql.database import SqlConnection, SqlDatabase

#: Seconds between two looks: what can come in meanwhile is bounded at the door.
_EVERY: Final = 5.0
#: Letters that one transaction deletes, and seconds for which the writer is left alone after it.
_ROWS: Final = 100
_PAUSE: Final = 0.02
#: Part of the budget to which a full quarantine is brought down, so that it isn't done each time.
_LOW: Final = 0.95
#: Seconds between two lines of the log.
_TELL_EVERY: Final = 60.0

_BY_SOURCE: Final = """
    SELECT quarantine, sum(kept_bytes) FROM dead_letters
    WHERE quarantine IS NOT NULL GROUP BY quarantine
"""
_TOTALS: Final = """
    SELECT count(*), coalesce(sum(kept_bytes), 0), min(dead_at) FROM dead_letters
    WHERE quarantine IS NOT NULL
"""
_OLDEST: Final = """
    SELECT seq, kept_bytes FROM dead_letters WHERE quarantine = ? ORDER BY seq LIMIT ?
"""
_EXPIRED: Final = """
    SELECT seq, kept_bytes FROM dead_letters
    WHERE quarantine IS NOT NULL AND dead_at < ? LIMIT ?
"""
_COUNT: Final = """
    INSERT INTO quarantine_losses (cause, letters, bytes, last_at) VALUES (?, ?, ?, ?)
    ON CONFLICT (cause) DO UPDATE SET
        letters = quarantine_losses.letters + excluded.letters,
        bytes = quarantine_losses.bytes + excluded.bytes,
        last_at = excluded.last_at
"""

_log: Any = structlog.get_logger(__name__)


class QuarantineBounds:
    """Holds the quarantine to its bytes and its age (seconds; 0: no age); used by one thread."""

    def __init__(self, database: SqlDatabase, most_bytes: int, age: float, rest: Rest) -> None:
        self._database = database
        self._most_bytes = most_bytes
        self._age = age
        self._rest = rest
        self._untold = 0
        self._told_at = -_TELL_EVERY

    def duty(self) -> Duty:
        """Return the janitor's duty."""
        complaint = Complaint(_log, "quarantine not bounded", "quarantine bounded again")
        return Duty(self.keep, _EVERY, complaint)

    def keep(self) -> float:
        """Delete the letters beyond the bounds; return the seconds until the next look.

        Raises StoreError.
        """
        if self._age:
            self._expire()
        self._tell(self._push_out())
        return _EVERY

    def _expire(self) -> None:
        before = timestamps.timestamp(max(0.0, time.time() - self._age))
        while rows := self._ask(_EXPIRED, before, _ROWS):
            self._delete("age", rows)
            if self._rest(_PAUSE):
                return

    def _push_out(self) -> int:
        """Delete the oldest letters of those sources that have more than their share."""
        sizes = dict(self._ask(_BY_SOURCE))
        if sum(sizes.values()) <= self._most_bytes:
            return 0
        level = _level(list(sizes.values()), int(self._most_bytes * _LOW))
        gone = 0
        for source, size in sizes.items():
            left = size
            while left > level:
                rows = []
                for seq, kept in self._ask(_OLDEST, source, _ROWS):
                    rows.append((seq, kept))
                    left -= kept
                    if left <= level:
                        break
                if not rows:
                    break
                gone += self._delete("bytes", rows)
                if self._rest(_PAUSE):
                    return gone
        return gone

    def _ask(self, query: str, *values: object) -> list[Any]:
        with self._database.reading() as connection:
            return connection.execute(query, values).fetchall()

    def _delete(self, cause: str, rows: list[tuple[int, int]]) -> int:
        with self._database.writing() as connection:
            gone = [
                size
                for seq, size in rows
                if connection.execute("DELETE FROM dead_letters WHERE seq = ?", (seq,)).rowcount
            ]
            connection.execute(_COUNT, (cause, len(gone), sum(gone), timestamps.now()))
        return len(gone)

    def _tell(self, pushed_out: int) -> None:
        self._untold += pushed_out
        if self._untold and time.monotonic() - self._told_at >= _TELL_EVERY:
            _log.warning("quarantine full", pushed_out=self._untold, bytes=self._most_bytes)
            self._untold, self._told_at = 0, time.monotonic()


def totals(connection: SqlConnection) -> QuarantineTotals:
    """Return how many letters are quarantined, and how many had to go again."""
    letters, size, oldest = connection.execute(_TOTALS).fetchone()
    losses = dict(connection.execute("SELECT cause, letters FROM quarantine_losses").fetchall())
    return QuarantineTotals(letters, size, oldest, losses.get("bytes", 0), losses.get("age", 0))


def _level(sizes: list[int], budget: int) -> int:
    """Return the most that each can have, so that all together have at most the budget."""
    left = budget
    for place, size in enumerate(sorted(sizes)):
        share = left // (len(sizes) - place)
        if size > share:
            return share
        left -= size
    return budget
