"""Recounts the topics: compares each topic's counters with its rows, and corrects them.

Both are read in one snapshot, and only their difference is written: whatever the worker stores
meanwhile changes both alike, so that the difference stays right, and the worker waits for no count.
A lock keeps two recounts from correcting the same difference.
"""

from typing import Any, Final

import psycopg

from appliance.errors import InUseError
from appliance.store.base import Rest
from appliance.store.postgresql.connections import connect, location, store_error
from appliance.store.postgresql.patience import WorkStoppedError
from appliance.store.sql.sums import agree

#: A number of ours for an advisory lock.
_LOCK: Final = 0x61_70_70_72
#: Each topic with its counters, and the sums of its rows.
COUNTERS: Final = """
    SELECT coalesce(t.topic, m.topic),
        coalesce(t.messages, 0), coalesce(t.bytes, 0), t.first_at, t.last_at,
        coalesce(m.messages, 0), coalesce(m.bytes, 0), m.first_at, m.last_at
    FROM topics AS t FULL JOIN (
        SELECT topic, count(*) AS messages,
            sum(coalesce(octet_length(body_bytes), octet_length(body))) AS bytes,
            min(received_at) AS first_at, max(received_at) AS last_at
        FROM messages GROUP BY topic
    ) AS m ON m.topic = t.topic
"""
_END: Final = "SELECT coalesce(max(seq), 0) FROM messages"
_ADD_TOPIC: Final = """
    INSERT INTO topics (topic, messages, bytes, first_at, last_at) VALUES (?, 0, 0, ?, ?)
    ON CONFLICT (topic) DO NOTHING
"""
#: The topic's row is locked first: what comes after the count is then seen, or comes later.
_HOLD: Final = "SELECT 1 FROM topics WHERE topic = ? FOR UPDATE"
_CORRECT: Final = """
    UPDATE topics SET
        messages = greatest(0, messages + :messages), bytes = greatest(0, bytes + :bytes),
        first_at = least(:first, (
            SELECT min(received_at) FROM messages WHERE topic = :topic AND seq > :until
        )),
        last_at = greatest(:last, (
            SELECT max(received_at) FROM messages WHERE topic = :topic AND seq > :until
        ))
    WHERE topic = :topic
"""


def recount(url: str, rest: Rest) -> list[str]:
    """Correct the counters of every topic; return the names of those that were wrong.

    `rest` is called between topics and while they are counted, and says whether to stop. Raises
    InUseError where another recount is under way, StoreError where the database can't be read or
    written.
    """
    connection = connect(url, readonly=False)
    connection.driver.rest = rest
    corrected: list[str] = []
    try:
        if not connection.execute(f"SELECT pg_try_advisory_lock({_LOCK})").fetchone()[0]:
            raise InUseError(f"{location(url)}: another recount is under way")
        with connection.driver.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            until = connection.execute(_END).fetchone()[0]
            topics = connection.execute(COUNTERS).fetchall()
        for topic, *values in topics:
            if rest(0):
                break
            kept, actual = values[:4], values[4:]
            if not agree(kept, actual):
                with connection.driver.transaction():
                    _correct(connection, topic, kept, actual, until)
                corrected.append(topic)
    except WorkStoppedError:
        pass
    except psycopg.Error as error:
        raise store_error(error, url) from error
    finally:
        connection.release()
    return corrected


def _correct(connection: Any, topic: str, kept: list[Any], actual: list[Any], until: int) -> None:
    if kept[2] is None:
        connection.execute(_ADD_TOPIC, (topic, actual[2], actual[3]))
    connection.execute(_HOLD, (topic,))
    values = {
        "topic": topic,
        "messages": actual[0] - kept[0],
        "bytes": actual[1] - kept[1],
        "first": kept[2] if actual[2] is None else actual[2],
        "last": kept[3] if actual[3] is None else actual[3],
        "until": until,
    }
    connection.execute(_CORRECT, values)
