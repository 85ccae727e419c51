"""Compares each topic's counters with its rows, and corrects them, whatever the engine.

Triggers keep the counters right where rows are deleted or changed with SQL. Rows that another
program inserted, and counters that someone wrote into, are found here.

A topic's counters and the sums of its rows are read in one snapshot, without a lock. Only their
difference is written: whatever the worker stores meanwhile changes both alike, so that the
difference stays right, and the worker never waits for a count.

What was counted once is remembered, so that a look reads only the rows behind it. Where the
counters are not what these make of them, all rows of the topic are counted. Rows that another
program replaced, or put before the newest one of their topic, are found by a look at all rows.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, NamedTuple, Protocol

from appliance.store.base import Rest
from appliance.store.sql.database import SqlConnection, SqlWords
from appliance.store.sql.sums import agree
from appliance.store.sql.topic_names import NAMES

#: Topics of which is remembered what was counted: some hundred bytes each.
_MOST_REMEMBERED: Final = 10_000

#: Counts of a topic until its counters agree with its rows.
_MOST_COUNTS: Final = 3

#: Each topic that has a row or counters, with these and the place of its newest row.
_TOPICS: Final = f"""
    {NAMES}
    SELECT each.name, t.messages, t.bytes, t.first_at, t.last_at,
        (SELECT max(seq) FROM messages WHERE topic = each.name)
    FROM (
        SELECT name FROM names WHERE name IS NOT NULL UNION SELECT topic FROM topics
    ) AS each LEFT JOIN topics AS t ON t.topic = each.name
    ORDER BY each.name
"""  # noqa: S608  # ours
_KEPT: Final = "SELECT messages, bytes, first_at, last_at FROM topics WHERE topic = ?"
_ADD_TOPIC: Final = """
    INSERT INTO topics (topic, messages, bytes, first_at, last_at) VALUES (?, 0, 0, ?, ?)
    ON CONFLICT (topic) DO NOTHING
"""
#: Before every row: a program may give its own any number.
_START: Final = -(2**63)
#: Takes the lock of the topic's counters: what comes after the count is then seen, or comes later.
_HOLD: Final = "UPDATE topics SET messages = messages WHERE topic = ?"


class Books(SqlConnection, Protocol):
    """A connection that reads in snapshots, and writes in transactions."""

    def snapshot(self) -> AbstractContextManager[None]:
        """Have all statements of the block see the same."""

    def transaction(self) -> AbstractContextManager[None]:
        """Commit where the block ends well, else undo it."""


class _Sums(NamedTuple):
    """Of a topic's rows, as they are or as its counters have them; no rows have no times."""

    messages: int = 0
    bytes: int = 0
    first_at: str | None = None
    last_at: str | None = None


class _Counted(NamedTuple):
    """A topic whose counters agreed with its rows, up to the `seq` that is `until`."""

    kept: _Sums = _Sums()
    actual: _Sums = _Sums()
    until: int = _START


class Recounter:
    """Corrects the counters of topics, and remembers what it has counted; used by one thread."""

    def __init__(self, words: SqlWords) -> None:
        rows = f"FROM {words.by_topic} WHERE topic = :topic AND seq > :after"
        self._query = (
            f"SELECT count(*), coalesce(sum({words.body_bytes}), 0), "
            f"min(received_at), max(received_at), max(seq) {rows}"
        )
        # The times of rows that came after the count are looked at once more, under the lock.
        time = (
            "(SELECT {0}(each) FROM (SELECT CAST(:{1} AS text) AS each "  # noqa: S608  # ours
            f"UNION ALL SELECT {{0}}(received_at) {rows}) AS times)"
        )
        self._correction = f"""
            UPDATE topics SET
                messages = CASE WHEN messages + :messages < 0 THEN 0 ELSE messages + :messages END,
                bytes = CASE WHEN bytes + :bytes < 0 THEN 0 ELSE bytes + :bytes END,
                first_at = {time.format("min", "first")},
                last_at = {time.format("max", "last")}
            WHERE topic = :topic
        """  # noqa: S608  # ours
        self._counted: dict[str, _Counted] = {}

    def run(self, books: Books, rest: Rest, corrected: list[str], *, whole: bool) -> None:
        """Correct the counters of every topic; add the names of those that were wrong.

        `whole` counts all rows, also those that were counted before. `rest` is called between
        topics, and says whether to stop. The engine's errors come out of it.
        """
        if whole:
            self._counted.clear()
        for topic, *kept, newest in books.execute(_TOPICS).fetchall():
            if rest(0):
                return
            known = self._counted.get(topic)
            if (
                known
                and known.kept == _sums_of(kept)
                and known.until == (_START if newest is None else newest)
            ):
                continue
            if self._settle(books, topic):
                corrected.append(topic)

    def _settle(self, books: Books, topic: str) -> bool:
        """Correct a topic's counters until they agree with its rows; return whether they did not.

        Between a count and its correction somebody can delete rows that were in no counter, which
        takes nothing from the counters: the next count sees that.
        """
        for count in range(_MOST_COUNTS):
            if not self._correct(books, topic):
                return count > 0
        return True

    def _correct(self, books: Books, topic: str) -> bool:
        """Correct a topic's counters; return whether they were wrong."""
        known = self._counted.pop(topic, _Counted())
        with books.snapshot():
            kept = _sums_of(books.execute(_KEPT, (topic,)).fetchone() or ())
            values = {"topic": topic, "after": known.until}
            *more, newest = books.execute(self._query, values).fetchone()
        actual = _added(known.actual, _sums_of(more))
        until = known.until if newest is None else newest
        if agree(kept, actual):
            if len(self._counted) < _MOST_REMEMBERED:
                self._counted[topic] = _Counted(kept, actual, until)
            return False
        if known.until != _START:
            return self._correct(books, topic)
        values |= {
            "after": until,
            "messages": actual.messages - kept.messages,
            "bytes": actual.bytes - kept.bytes,
            "first": actual.first_at or kept.first_at,
            "last": actual.last_at or kept.last_at,
        }
        with books.transaction():
            if kept.first_at is None:
                books.execute(_ADD_TOPIC, (topic, values["first"], values["last"]))
            books.execute(_HOLD, (topic,))
            books.execute(self._correction, values)
        return True


def _sums_of(values: Sequence[Any]) -> _Sums:
    """Return the sums of a row, which has none where all of it is NULL."""
    return _Sums(*values) if any(value is not None for value in values) else _Sums()


def _added(one: _Sums, other: _Sums) -> _Sums:
    """Return the sums of both."""
    first = [time for time in (one.first_at, other.first_at) if time is not None]
    last = [time for time in (one.last_at, other.last_at) if time is not None]
    return _Sums(
        one.messages + other.messages,
        one.bytes + other.bytes,
        min(first, default=None),
        max(last, default=None),
    )
