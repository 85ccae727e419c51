"""Deletes rows of messages in transactions so short that the worker hardly notices.

The time for which a transaction held the writer decides how many rows the next one deletes, and how
long the writer is left alone. Triggers of ours subtract the rows from their topic's counters. Then
the freed pages are given back to the file system, also in small steps.

A row that a trigger of someone else's keeps from being deleted stays, and stops nothing.
"""

import json
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, NamedTuple

from appliance.store.base import Rest
from appliance.store.sql.database import SqlWords, SqlWork

#: Seconds for which a message is never deleted by itself: it can be delivered again, and would be
#: stored again.
FRESH_SECONDS: Final = 60.0
#: Seconds for which a transaction should hold the writer at most.
_HOLD: Final = 0.010
#: Rows of one transaction: of the first one, at least (with fewer it is the disk's sync that takes
#: the time, whatever their number), at most. And bytes of bodies, because each
#: page of a large body is freed on its own.
_FIRST_ROWS: Final = 200
_LEAST_ROWS: Final = 100
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
#: Rows among which a topic's first and last time are searched for: the order of storing is nearly
#: the order of times.
_NEAR: Final = 1000
_DELETE: Final = """
    DELETE FROM messages WHERE seq IN ({seqs}) AND topic = ?
    RETURNING {bytes}, received_at, seq
"""
#: A topic's first time is searched for only where its message was deleted: a message that was sent
#: again is old and was stored late, and its time stays the first one. The same holds for the last.
_SET_FIRST: Final = f"""
    UPDATE topics SET first_at = coalesce((
        SELECT min(received_at) FROM (
            SELECT received_at FROM {{messages}}
            WHERE topic = topics.topic ORDER BY seq LIMIT {_NEAR}
        ) AS near
    ), last_at) WHERE topic = ? AND first_at >= ?
"""  # noqa: S608  # a number of ours
_SET_LAST: Final = f"""
    UPDATE topics SET last_at = coalesce((
        SELECT max(received_at) FROM (
            SELECT received_at FROM {{messages}}
            WHERE topic = topics.topic ORDER BY seq DESC LIMIT {_NEAR}
        ) AS near
    ), last_at) WHERE topic = ? AND last_at <= ?
"""  # noqa: S608  # a number of ours

#: Messages that are deleted before their turn at an endpoint; where all are ahead of them, nothing.
_COUNT_GONE: Final = """
    UPDATE endpoints SET gone = gone + (
        WITH deleted (seq) AS ({seqs}) SELECT count(*) FROM deleted WHERE deleted.seq > cursor
    )
    WHERE cursor < :last AND {matches}
"""

#: Called within the transaction, with the number of rows that are gone and their bytes.
Account = Callable[[int, int], None]


class Pace:
    """The size of the next transaction: larger after quick ones, smaller after a slow one."""

    def __init__(self, first: int, least: int, most: int) -> None:
        self.size = first
        self._least = least
        self._most = most

    def learn(self, held: float) -> None:
        """Take account of a transaction that held the writer for so many seconds."""
        if held > _HOLD:
            self.size = max(self._least, self.size // 2)
        elif held < _HOLD / 2:
            self.size = min(self._most, self.size + self.size // 4 + 1)


class Deletable(NamedTuple):
    """A row that may be deleted."""

    seq: int
    size: int
    received_at: str


class ShortDeletes:
    """Deletes rows of messages; used by one thread, on the connection that it gives.

    `rows`, `bytes`, `pages` and `longest_hold` (seconds) are what was done since `begin`;
    `refused` rows stay, for the reason `refusal`.
    """

    def __init__(self, words: SqlWords, rest: Rest) -> None:
        self._rest = rest
        self._deletion = _DELETE.format(seqs=words.numbers_of("?"), bytes=words.body_bytes)
        self._set_first = _SET_FIRST.format(messages=words.by_topic)
        self._set_last = _SET_LAST.format(messages=words.by_topic)
        self._count_gone = _COUNT_GONE.format(
            seqs=words.numbers_of(":seqs"), matches=words.matched.format(":topic", "topics")
        )
        self._pace = Pace(_FIRST_ROWS, _LEAST_ROWS, _MOST_ROWS)
        self._pages_pace = Pace(_FIRST_PAGES, _LEAST_PAGES, _MOST_PAGES)
        self.begin()

    def begin(self) -> None:
        """Count from nothing again."""
        self.rows = self.bytes = self.pages = self.refused = 0
        self.longest_hold = 0.0
        self.refusal = ""

    @property
    def chunk(self) -> int:
        """How many rows the next transaction should delete."""
        return self._pace.size

    def delete(
        self,
        connection: SqlWork,
        topic: str,
        seqs: list[int],
        *,
        learn: bool = False,
        account: Account | None = None,
    ) -> bool:
        """Delete rows of a topic, but for those that a trigger keeps; return whether to stop.

        With `learn` the next `chunk` follows from the time that this one took.
        """
        work = partial(self._delete_all, connection, topic, seqs, account)
        try:
            held = self.hold(connection, work)
        except Exception as error:
            if not connection.is_refused(error, self._deletion):
                raise
            if len(seqs) == 1:
                self.refused += 1
                self.refusal = f"topic {topic}, seq {seqs[0]}: {error}"
                return self._rest(0)
            half = len(seqs) // 2
            return any(
                self.delete(connection, topic, part, account=account)
                for part in (seqs[:half], seqs[half:])
            )
        if learn:
            self._pace.learn(held)
        return self._pause(connection, held)

    def _delete_all(
        self, connection: SqlWork, topic: str, seqs: list[int], account: Account | None
    ) -> None:
        rows = connection.execute(self._deletion, (json.dumps(seqs), topic)).fetchall()
        if not rows:
            return  # another process was quicker
        size = sum(row[0] for row in rows)
        times = [row[1] for row in rows]
        gone = [row[2] for row in rows]
        connection.execute(
            self._count_gone, {"seqs": json.dumps(gone), "last": max(gone), "topic": topic}
        )
        # In this order: in a topic without messages both become the last time.
        connection.execute(self._set_last, (topic, max(times)))
        connection.execute(self._set_first, (topic, min(times)))
        if account is not None:
            account(len(rows), size)
        self.rows += len(rows)
        self.bytes += size

    def shrink(self, connection: SqlWork) -> None:
        """Give free pages back, except for some that will be used again soon."""
        while (over := connection.spare_pages()) > 0:
            count = min(over, self._pages_pace.size)
            held = self.hold(connection, partial(connection.free_pages, count))
            self.pages += count
            self._pages_pace.learn(held)
            if self._pause(connection, held):
                return

    def hold(self, connection: SqlWork, work: Callable[[], object]) -> float:
        """Do `work` in one transaction; return the seconds for which the writer was held."""
        with connection.transaction():
            began = time.monotonic()
            work()
        held = time.monotonic() - began
        self.longest_hold = max(self.longest_hold, held)
        return held

    def _pause(self, connection: SqlWork, held: float) -> bool:
        """Leave the writer to the worker for a while; return whether to stop."""
        connection.tidy()
        return self._rest(max(_LEAST_PAUSE, _PAUSE_FACTOR * held))


def within(candidates: Iterable[Deletable]) -> list[Deletable]:
    """Return the first candidates whose bodies fit into one transaction; at least one."""
    chunk: list[Deletable] = []
    size = 0
    for row in candidates:
        size += row.size
        if chunk and size > _MOST_BYTES:
            break
        chunk.append(row)
    return chunk
