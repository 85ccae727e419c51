"""Retention: deletes messages in transactions so short that the worker hardly notices.

What is deleted is decided by the rows that are there, never by the counters in `topics`, which
other programs can write. The rows are counted and searched for without a lock.

A row that a trigger of someone else's keeps from being deleted stays, and stops nothing: the rows
beside it are deleted, and the next sweep goes on behind it.
"""

import time
from dataclasses import dataclass
from typing import Any, Final

import structlog

from appliance.machine.complaint import Complaint
from appliance.model import timestamps
from appliance.model.retention import Rule, Rules
from appliance.store.base import Rest
from appliance.store.sql.database import SqlDatabase, SqlWork
from appliance.store.sql.short_deletes import FRESH_SECONDS, Deletable, ShortDeletes, within
from appliance.store.sql.topic_names import NAMES

#: Rows of a topic that are looked at first: where none is too old, most rules are kept.
_PEEK: Final = 100
#: Rows of one topic that triggers may refuse to delete in one sweep.
_MOST_REFUSED: Final = 1000
#: A topic whose rows took long to count is counted again after this many times as long.
_COUNT_PART: Final = 50.0

_TOPICS: Final = f"{NAMES} SELECT name FROM names WHERE name IS NOT NULL"  # noqa: S608  # ours
_COUNT: Final = """
    SELECT count(*), 0 FROM {messages} WHERE topic = ? AND seq > ?
"""
_MEASURE: Final = """
    SELECT count(*), coalesce(sum({bytes}), 0)
    FROM {messages} WHERE topic = ? AND seq > ?
"""
_CANDIDATES: Final = """
    SELECT seq, {bytes}, received_at FROM {messages}
    WHERE topic = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?
"""

_log: Any = structlog.get_logger(__name__)


@dataclass(slots=True)
class Swept:
    """The outcome: rows and bytes of bodies deleted, pages given back, seconds."""

    rows: int = 0
    bytes: int = 0
    pages: int = 0
    seconds: float = 0.0
    longest_hold: float = 0.0


class _Excess:
    """The excess of a topic over its rule; asked about each message, oldest first."""

    def __init__(self, rule: Rule, count: int, size: int, now: float) -> None:
        self._rows = 0 if rule.rows is None else count - rule.rows
        self._bytes = 0 if rule.bytes is None else size - rule.bytes
        self._fresh = timestamps.timestamp(now - FRESH_SECONDS)
        self._old = "" if rule.age is None else timestamps.timestamp(now - rule.age)

    @property
    def any(self) -> bool:
        """Whether there are more rows or bytes than the rule keeps."""
        return self._rows > 0 or self._bytes > 0

    def has(self, size: int, received_at: str) -> bool:
        """Whether to delete the message; if so, subtracts it from the excess."""
        too_much = (self._rows > 0 or self._bytes > 0) and received_at < self._fresh
        if not too_much and not received_at < self._old:
            return False
        self._rows -= 1
        self._bytes -= size
        return True


class Sweeper:
    """Holds the database at `path` to `rules`; used by one thread."""

    def __init__(self, database: SqlDatabase, rules: Rules, rest: Rest) -> None:
        self._database = database
        self._rules = rules
        self._rest = rest
        words = {"messages": database.words.by_topic, "bytes": database.words.body_bytes}
        self._count = _COUNT.format_map(words)
        self._measure = _MEASURE.format_map(words)
        self._candidates = _CANDIDATES.format_map(words)
        self._deletes = ShortDeletes(database.words, rest)
        self._count_at: dict[str, float] = {}  # when a topic is counted again
        self._after: dict[str, int] = {}  # where a sweep goes on, behind rows that can't be deleted
        self._hindered = Complaint(_log, "retention hindered", "retention no longer hindered")

    def sweep(self) -> Swept:
        """Delete the messages that the rules don't keep, and shrink the file. Raises StoreError."""
        began, deletes = time.monotonic(), self._deletes
        deletes.begin()
        with self._database.working(self._rest) as connection:
            self._sweep_topics(connection)
            deletes.shrink(connection)
        if deletes.refusal:
            self._hindered.fails(error=deletes.refusal)
        else:
            self._hindered.works()
        seconds = time.monotonic() - began
        return Swept(deletes.rows, deletes.bytes, deletes.pages, seconds, deletes.longest_hold)

    def _sweep_topics(self, connection: SqlWork) -> None:
        for (topic,) in connection.execute(_TOPICS).fetchall():
            rule = self._rules.of(topic)
            if rule is None:
                continue
            # A trigger that stores a row for each deleted one must not keep the sweep going.
            until = connection.execute("SELECT max(seq) FROM messages").fetchone()[0] or 0
            after = self._after.pop(topic, 0)
            excess = self._excess(connection, topic, rule, after)
            oldest = connection.execute(self._candidates, (topic, after, until, _PEEK)).fetchall()
            if not excess.any and not any(excess.has(*row[1:]) for row in oldest):
                continue
            if self._sweep_topic(connection, topic, excess, after, until):
                return

    def _excess(self, connection: SqlWork, topic: str, rule: Rule, after: int) -> _Excess:
        """Count a topic's rows, as far as its rule asks for that, unless it was counted lately."""
        began = time.monotonic()
        if (rule.rows is None and rule.bytes is None) or began < self._count_at.get(topic, 0.0):
            return _Excess(Rule(rule.pattern, age=rule.age), 0, 0, time.time())
        query = self._count if rule.bytes is None else self._measure
        count, size = connection.execute(query, (topic, after)).fetchone()
        ended = time.monotonic()
        self._count_at[topic] = ended + _COUNT_PART * (ended - began)
        return _Excess(rule, count, size, time.time())

    def _sweep_topic(
        self, connection: SqlWork, topic: str, excess: _Excess, after: int, until: int
    ) -> bool:
        """Delete a topic's excess, oldest first; return whether to stop."""
        refused_before = self._deletes.refused
        while True:
            size = self._deletes.chunk
            rows = connection.execute(self._candidates, (topic, after, until, size)).fetchall()
            chunk = within(map(Deletable._make, rows))
            seqs = [row.seq for row in chunk if excess.has(row.size, row.received_at)]
            if not seqs:
                return False
            if self._deletes.delete(connection, topic, seqs, learn=len(rows) == size):
                return True
            after = chunk[-1].seq
            if self._deletes.refused - refused_before > _MOST_REFUSED:
                self._after[topic] = after
                return False
