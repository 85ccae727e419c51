"""Retention: deletes messages in transactions so short that the worker hardly notices.

What is deleted is decided by the rows that are there, never by the counters in `topics`, which
other programs can write. The rows are counted and searched for without a lock. Each transaction
deletes some of them, and triggers of ours subtract them from their topic's counters; the time for
which it held the writer decides how many rows the next one deletes. Then the freed pages are given
back to the file system, also in small steps.

A row that a trigger of someone else's keeps from being deleted stays, and stops nothing: the rows
beside it are deleted, and the next sweep goes on behind it.
"""

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import structlog

from appliance.machine.complaint import Complaint
from appliance.model import timestamps
from appliance.model.retention import Rule, Rules
from appliance.store.base import Rest
from appliance.store.sqlite import paths, refusal
from appliance.store.sqlite.database import connect, sqlite3, store_error

#: Seconds for which a transaction should hold the writer at most.
_HOLD: Final = 0.010
#: Rows of one transaction: of the first one, at least, at most. And bytes of bodies, because each
#: page of a large body is freed on its own.
_FIRST_ROWS: Final = 200
_LEAST_ROWS: Final = 10
_MOST_ROWS: Final = 2000
_MOST_BYTES: Final = 4 * 2**20
#: Pages given back by one transaction: by the first one, at least, at most.
_FIRST_PAGES: Final = 64
_LEAST_PAGES: Final = 8
_MOST_PAGES: Final = 1024
#: The writer is left alone for this many times as long as it was held, and for these seconds at
#: least.
_PAUSE_FACTOR: Final = 2.0
_LEAST_PAUSE: Final = 0.005
#: Seconds for which a message is never deleted: it can be delivered again, and would be stored
#: again.
_FRESH: Final = 60.0
#: Rows among which a topic's first and last time are searched for: the order of storing is nearly
#: the order of times.
_NEAR: Final = 1000
#: Free pages that are left in the file for new messages: this part of the pages in use, and this
#: number at least.
_SPARE_PART: Final = 0.1
_SPARE_PAGES: Final = 1024
#: Bytes of WAL after which it is moved into the database between two transactions.
_WAL_BYTES: Final = 32 * 2**20

#: Rows of a topic that are looked at first: where none is too old, most rules are kept.
_PEEK: Final = 100
#: Rows of one topic that triggers may refuse to delete in one sweep.
_MOST_REFUSED: Final = 1000
#: A topic whose rows took long to count is counted again after this many times as long.
_COUNT_PART: Final = 50.0
#: Steps of SQLite's machine between two looks whether to stop: a few milliseconds.
_STEPS: Final = 100_000

#: Each topic that has a row, found by one search in the index for each.
_TOPICS: Final = """
    WITH RECURSIVE names (name) AS (
        SELECT min(topic) FROM messages
        UNION ALL
        SELECT (SELECT min(topic) FROM messages WHERE topic > name) FROM names
        WHERE name IS NOT NULL
    )
    SELECT name FROM names WHERE name IS NOT NULL
"""
_COUNT: Final = """
    SELECT count(*), 0 FROM messages INDEXED BY messages_topic WHERE topic = ? AND seq > ?
"""
_MEASURE: Final = """
    SELECT count(*), coalesce(sum(octet_length(body)), 0)
    FROM messages INDEXED BY messages_topic WHERE topic = ? AND seq > ?
"""
_CANDIDATES: Final = """
    SELECT seq, octet_length(body), received_at FROM messages INDEXED BY messages_topic
    WHERE topic = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?
"""
_DELETE: Final = """
    DELETE FROM messages WHERE seq IN (SELECT value FROM json_each(?)) AND topic = ?
    RETURNING octet_length(body), received_at
"""
#: A topic's first time is searched for only where its message was deleted: a message that was sent
#: again is old and was stored late, and its time stays the first one. The same holds for the last.
_SET_FIRST: Final = f"""
    UPDATE topics SET first_at = coalesce((
        SELECT min(received_at) FROM (
            SELECT received_at FROM messages INDEXED BY messages_topic
            WHERE topic = topics.topic ORDER BY seq LIMIT {_NEAR}
        )
    ), last_at) WHERE topic = ? AND first_at >= ?
"""  # noqa: S608  # a number of ours
_SET_LAST: Final = f"""
    UPDATE topics SET last_at = coalesce((
        SELECT max(received_at) FROM (
            SELECT received_at FROM messages INDEXED BY messages_topic
            WHERE topic = topics.topic ORDER BY seq DESC LIMIT {_NEAR}
        )
    ), last_at) WHERE topic = ? AND last_at <= ?
"""  # noqa: S608  # a number of ours

_log: Any = structlog.get_logger(__name__)


@dataclass(slots=True)
class Swept:
    """The outcome: rows and bytes of bodies deleted, pages given back, seconds."""

    rows: int = 0
    bytes: int = 0
    pages: int = 0
    seconds: float = 0.0
    longest_hold: float = 0.0


class _Pace:
    """The size of the next transaction: larger after quick ones, smaller after a slow one."""

    def __init__(self, first: int, least: int, most: int) -> None:
        self.size = first
        self._least = least
        self._most = most

    def learn(self, held: float) -> None:
        if held > _HOLD:
            self.size = max(self._least, self.size // 2)
        elif held < _HOLD / 2:
            self.size = min(self._most, self.size + self.size // 4 + 1)


class _Excess:
    """The excess of a topic over its rule; asked about each message, oldest first."""

    def __init__(self, rule: Rule, count: int, size: int, now: float) -> None:
        self._rows = 0 if rule.rows is None else count - rule.rows
        self._bytes = 0 if rule.bytes is None else size - rule.bytes
        self._fresh = timestamps.timestamp(now - _FRESH)
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


class _Candidate(NamedTuple):
    seq: int
    size: int
    received_at: str


class Sweeper:
    """Holds the database at `path` to `rules`; used by one thread."""

    def __init__(self, path: Path, rules: Rules, rest: Rest) -> None:
        self._path = path
        self._rules = rules
        self._rest = rest
        self._rows = _Pace(_FIRST_ROWS, _LEAST_ROWS, _MOST_ROWS)
        self._pages = _Pace(_FIRST_PAGES, _LEAST_PAGES, _MOST_PAGES)
        self._swept = Swept()
        self._stopped = False
        self._count_at: dict[str, float] = {}  # when a topic is counted again
        self._after: dict[str, int] = {}  # where a sweep goes on, behind rows that can't be deleted
        self._refused = 0  # rows of the present topic
        self._refusal = ""
        self._hindered = Complaint(_log, "retention hindered", "retention no longer hindered")

    def sweep(self) -> Swept:
        """Delete the messages that the rules don't keep, and shrink the file. Raises StoreError."""
        began, self._swept, self._refusal = time.monotonic(), Swept(), ""
        try:
            connection = connect(self._path, readonly=False)
            try:
                # Checkpoints are made between transactions, where they hold no writer.
                connection.execute("PRAGMA wal_autocheckpoint = 0")
                connection.set_progress_handler(self._look_up, _STEPS)
                self._sweep_topics(connection)
                self._shrink(connection)
            finally:
                connection.close()
        except sqlite3.Error as error:
            if not self._stopped:
                raise store_error(error, self._path) from error
        if self._refusal:
            self._hindered.fails(error=self._refusal)
        else:
            self._hindered.works()
        self._swept.seconds = time.monotonic() - began
        return self._swept

    def _look_up(self) -> int:
        """Beat during a long statement; end it where the janitor stops."""
        self._stopped = self._rest(0)
        return int(self._stopped)

    def _sweep_topics(self, connection: Any) -> None:
        for (topic,) in connection.execute(_TOPICS).fetchall():
            rule = self._rules.of(topic)
            if rule is None:
                continue
            # A trigger that stores a row for each deleted one must not keep the sweep going.
            until = connection.execute("SELECT max(seq) FROM messages").fetchone()[0] or 0
            after = self._after.pop(topic, 0)
            excess = self._excess(connection, topic, rule, after)
            oldest = connection.execute(_CANDIDATES, (topic, after, until, _PEEK)).fetchall()
            if not excess.any and not any(excess.has(*row[1:]) for row in oldest):
                continue
            if self._sweep_topic(connection, topic, excess, after, until):
                return

    def _excess(self, connection: Any, topic: str, rule: Rule, after: int) -> _Excess:
        """Count a topic's rows, as far as its rule asks for that, unless it was counted lately."""
        began = time.monotonic()
        if (rule.rows is None and rule.bytes is None) or began < self._count_at.get(topic, 0.0):
            return _Excess(Rule(rule.pattern, age=rule.age), 0, 0, time.time())
        query = _COUNT if rule.bytes is None else _MEASURE
        count, size = connection.execute(query, (topic, after)).fetchone()
        ended = time.monotonic()
        self._count_at[topic] = ended + _COUNT_PART * (ended - began)
        return _Excess(rule, count, size, time.time())

    def _sweep_topic(
        self, connection: Any, topic: str, excess: _Excess, after: int, until: int
    ) -> bool:
        """Delete a topic's excess, oldest first; return whether to stop."""
        self._refused = 0
        while True:
            size = self._rows.size
            rows = connection.execute(_CANDIDATES, (topic, after, until, size)).fetchall()
            chunk = _within(map(_Candidate._make, rows))
            seqs = [row.seq for row in chunk if excess.has(row.size, row.received_at)]
            if not seqs:
                return False
            if self._delete(connection, topic, seqs, learn=len(rows) == size):
                return True
            after = chunk[-1].seq
            if self._refused > _MOST_REFUSED:
                self._after[topic] = after
                return False

    def _delete(self, connection: Any, topic: str, seqs: list[int], *, learn: bool = False) -> bool:
        """Delete the rows, but for those that a trigger keeps; return whether to stop."""
        try:
            held = self._hold(connection, partial(self._delete_all, connection, topic, seqs))
        except sqlite3.Error as error:
            if not refusal.can_be_of_a_trigger(connection, error):
                raise
            if refusal.compile_error(connection, _DELETE):
                raise
            if len(seqs) == 1:
                self._refused += 1
                self._refusal = f"topic {topic}, seq {seqs[0]}: {error}"
                return self._rest(0)
            half = len(seqs) // 2
            parts = seqs[:half], seqs[half:]
            return any(self._delete(connection, topic, part) for part in parts)
        if learn:
            self._rows.learn(held)
        return self._pause(connection, held)

    def _delete_all(self, connection: Any, topic: str, seqs: list[int]) -> None:
        rows = connection.execute(_DELETE, (json.dumps(seqs), topic)).fetchall()
        if not rows:
            return  # another process was quicker
        size = sum(row[0] for row in rows)
        times = [row[1] for row in rows]
        # In this order: in a topic without messages both become the last time.
        connection.execute(_SET_LAST, (topic, max(times)))
        connection.execute(_SET_FIRST, (topic, min(times)))
        self._swept.rows += len(rows)
        self._swept.bytes += size

    def _shrink(self, connection: Any) -> None:
        """Give free pages back, except for some that will be used again soon."""
        while True:
            pages, free = (
                connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("page_count", "freelist_count")
            )
            over = free - max(_SPARE_PAGES, int((pages - free) * _SPARE_PART))
            if over <= 0:
                return
            count = min(over, self._pages.size)
            vacuum = f"PRAGMA incremental_vacuum({count})"
            held = self._hold(connection, partial(_run, connection, vacuum))
            self._swept.pages += count
            self._pages.learn(held)
            if self._pause(connection, held):
                return

    def _hold(self, connection: Any, work: Callable[[], object]) -> float:
        """Do `work` in one transaction; return the seconds for which the writer was held."""
        connection.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        try:
            work()
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        held = time.monotonic() - began
        self._swept.longest_hold = max(self._swept.longest_hold, held)
        return held

    def _pause(self, connection: Any, held: float) -> bool:
        """Leave the writer to the worker for a while; return whether to stop."""
        if paths.size(paths.wal(self._path)) > _WAL_BYTES:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        return self._rest(max(_LEAST_PAUSE, _PAUSE_FACTOR * held))


def _run(connection: Any, statement: str, *values: object) -> None:
    connection.execute(statement, values).fetchall()


def _within(candidates: Iterable[_Candidate]) -> list[_Candidate]:
    """Return the first candidates whose bodies fit into one transaction; at least one."""
    chunk: list[_Candidate] = []
    size = 0
    for row in candidates:
        size += row.size
        if chunk and size > _MOST_BYTES:
            break
        chunk.append(row)
    return chunk
