"""Recounts the topics: compares each topic's counters with its rows, and corrects them.

Triggers keep the counters right where rows are deleted or changed with SQL. Rows that another
program inserted, and counters that someone wrote into, are found here.

A topic's counters and the sums of its rows are read in one snapshot, without a lock. Only their
difference is written: whatever the worker stores meanwhile changes both alike, so that the
difference stays right, and the worker never waits for a count. A lock keeps two recounts from
correcting the same difference.
"""

from pathlib import Path
from typing import Any, Final

from appliance.errors import InUseError, StoreError
from appliance.machine import locks
from appliance.store.base import Rest
from appliance.store.sql.sums import agree
from appliance.store.sqlite import paths
from appliance.store.sqlite.database import connect, sqlite3, store_error, transaction

#: Steps of SQLite's machine between two looks whether to stop: a few milliseconds.
_STEPS: Final = 100_000
#: Bytes by which the write-ahead log may grow while one topic is counted.
_WAL_GROWTH: Final = 256 * 2**20
#: Seconds to wait for another recount.
_PATIENCE: Final = 5.0

#: Each topic that has a row (found by one search in the index for each) or a counter.
_TOPICS: Final = """
    WITH RECURSIVE names (name) AS (
        SELECT min(topic) FROM messages
        UNION ALL
        SELECT (SELECT min(topic) FROM messages WHERE topic > name) FROM names
        WHERE name IS NOT NULL
    )
    SELECT name FROM names WHERE name IS NOT NULL UNION SELECT topic FROM topics
"""
_KEPT: Final = "SELECT messages, bytes, first_at, last_at FROM topics WHERE topic = ?"
_TRUE: Final = """
    SELECT count(*), coalesce(sum(octet_length(body)), 0), min(received_at), max(received_at),
        max(seq)
    FROM messages INDEXED BY messages_topic WHERE topic = ?
"""
_ADD_TOPIC: Final = """
    INSERT INTO topics (topic, messages, bytes, first_at, last_at) VALUES (?, 0, 0, ?, ?)
    ON CONFLICT (topic) DO NOTHING
"""
#: The times of rows that came after the count are looked at once more, under the lock.
_CORRECT: Final = """
    UPDATE topics SET
        messages = max(0, messages + :messages), bytes = max(0, bytes + :bytes),
        first_at = min(:first, coalesce((
            SELECT min(received_at) FROM messages INDEXED BY messages_topic
            WHERE topic = :topic AND seq > :until
        ), :first)),
        last_at = max(:last, coalesce((
            SELECT max(received_at) FROM messages INDEXED BY messages_topic
            WHERE topic = :topic AND seq > :until
        ), :last))
    WHERE topic = :topic
"""


def recount(path: Path, rest: Rest) -> list[str]:
    """Correct the counters of every topic; return the names of those that were wrong.

    `rest` is called now and then, and says whether to stop. Raises InUseError where another recount
    is under way, StoreError where the database can't be read or written, or where so much is
    written meanwhile that the write-ahead log would grow too large.
    """
    recounter = _Recounter(path, rest)
    try:
        with locks.held(paths.with_suffix(path, ".migrate"), patience=_PATIENCE):
            return recounter.run()
    except BlockingIOError as error:
        raise InUseError(f"{path}: another recount or a migration is under way") from error
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error


class _Recounter:
    def __init__(self, path: Path, rest: Rest) -> None:
        self._path = path
        self._rest = rest
        self._stopped = False
        self._too_much = False
        self._wal_at_first = 0

    def run(self) -> list[str]:
        connection = connect(self._path, readonly=False)
        wrong: list[str] = []
        try:
            connection.set_progress_handler(self._look_up, _STEPS)
            for (topic,) in connection.execute(_TOPICS).fetchall():
                if self._correct(connection, topic):
                    wrong.append(topic)
                if self._stopped:
                    break
        except sqlite3.Error as error:
            if self._too_much:
                raise StoreError(
                    f"{self._path}: so much is written that the write-ahead log grew by "
                    f"{_WAL_GROWTH >> 20} MiB while one topic was counted"
                ) from error
            if not self._stopped:
                raise store_error(error, self._path) from error
        finally:
            connection.close()
        return wrong

    def _look_up(self) -> int:
        self._stopped = self._rest(0)
        grown = paths.size(paths.wal(self._path)) - self._wal_at_first
        self._too_much = grown > _WAL_GROWTH
        return int(self._stopped or self._too_much)

    def _correct(self, connection: Any, topic: str) -> bool:
        """Correct a topic's counters; return whether they were wrong."""
        self._wal_at_first = paths.size(paths.wal(self._path))
        with transaction(connection, "BEGIN"):
            kept = connection.execute(_KEPT, (topic,)).fetchone()
            *actual, until = connection.execute(_TRUE, (topic,)).fetchone()
        if agree(kept, actual):
            return False
        messages, size, first, last = kept or (0, 0, None, None)
        with transaction(connection):
            if kept is None:
                connection.execute(_ADD_TOPIC, (topic, actual[2], actual[3]))
            values = {
                "topic": topic,
                "messages": actual[0] - messages,
                "bytes": actual[1] - size,
                "first": first if actual[2] is None else actual[2],
                "last": last if actual[3] is None else actual[3],
                "until": until or 0,
            }
            connection.execute(_CORRECT, values)
        return True
