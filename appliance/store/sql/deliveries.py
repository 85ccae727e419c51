"""Reads and writes of the process that delivers.

Its transactions are not synced: ten times a second would be ten syncs a second that intake has to
wait for. In SQLite (`synchronous=NORMAL`, WAL mode) a commit is a run of frames at the log's end,
each with a checksum over all that came before it. A power cut can take the last frames away, and
then a whole number of the last commits is gone. So a cursor goes back together with all that was
written beside it or after it: messages are delivered again, and none is passed over. A worker's
commit that follows in the same log syncs the whole file, and with it whatever stands before: what
the worker acknowledged never depends on a frame that is not on disk. Before a checkpoint moves
frames into the database, it syncs the log, at NORMAL too.
"""

# ruff: noqa: S608  # the SQL is put together from texts of this package, and values are bound

import json
from collections.abc import Sequence
from typing import Any, Final

from appliance.model.topics import CANARY_TOPIC
from appliance.store.endpoint_rows import (
    ACTIVE,
    AttemptRow,
    DeliveryOutcome,
    DueRow,
    EndpointStanding,
    LaneRow,
    Outfit,
)
from appliance.store.filters import MessageFilter
from appliance.store.paging import take
from appliance.store.replay_rows import ReplayPart, ReplayWork
from appliance.store.rows import StoredMessage, Stretch
from appliance.store.sql import endpoint_tables, expiry, replay_table
from appliance.store.sql.database import SqlDatabase
from appliance.store.sql.following import end_of
from appliance.store.sql.patterns import wanted_topics
from appliance.store.sql.replay_reads import replay_part

#: Numbers that one read looks through, however few of them are wanted; and those where it looks at
#: bodies, each of which can take milliseconds.
_SEARCHED: Final = 5000
_SEARCHED_BODIES: Final = 500
#: Attempts that one transaction deletes.
_SWEPT: Final = 2000

_DUE: Final = ", ".join(DueRow._fields)
_LANE: Final = ", ".join(LaneRow._fields)
_ATTEMPT: Final = ", ".join(AttemptRow._fields[1:])
#: The counts are added, because an endpoint's row is not held here.
_STAND: Final = """
    UPDATE endpoints SET
        cursor = ?, failures = ?, broken_at = ?, retry_at = ?, trouble = ?,
        delivered = delivered + ?, failed = failed + ?, given_up = given_up + ?, gone = gone + ?,
        delivered_at = coalesce(?, delivered_at)
    WHERE id = ?
"""
#: What belongs to an endpoint that was removed meanwhile is left out.
_STILL_THERE: Final = "WHERE EXISTS (SELECT 1 FROM endpoints WHERE id = :endpoint)"
_ADD_DUE: Final = f"""
    INSERT INTO deliveries_due ({", ".join(DueRow._fields[1:])})
    SELECT {", ".join(f":{name}" for name in DueRow._fields[1:])} {_STILL_THERE}
    ON CONFLICT (endpoint, seq) DO UPDATE SET
        state = excluded.state, attempts = excluded.attempts, first_at = excluded.first_at,
        due_at = excluded.due_at, status = excluded.status, error = excluded.error,
        replay = excluded.replay
"""
#: One that was discarded while it was under way stays so.
_CHANGE_DUE: Final = """
    UPDATE deliveries_due SET
        state = :state, attempts = :attempts, due_at = :due_at, status = :status, error = :error
    WHERE id = :id AND state = 'waiting'
"""
_PUT_LANE: Final = f"""
    INSERT INTO delivery_lanes ({_LANE})
    SELECT {", ".join(f":{name}" for name in LaneRow._fields)} {_STILL_THERE}
    ON CONFLICT (endpoint, topic) DO UPDATE SET
        cursor = excluded.cursor, attempts = excluded.attempts, first_at = excluded.first_at,
        due_at = excluded.due_at, error = excluded.error
"""


class StoredDeliveries:
    """Reads on connections of its own, and writes in short transactions."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database.apart()
        self._words = database.words
        self._seen: tuple[Any, int] | None = None

    def is_changed(self) -> bool:
        """Whether anything was committed by others since the last call."""
        if not self._database.exists():
            return False
        with self._database.reading() as connection:
            # The number is the connection's own: on another one it says nothing.
            seen = (connection, connection.execute(self._words.data_version).fetchone()[0])
        is_same, self._seen = seen == self._seen, seen
        return not is_same

    def has_active(self) -> bool:
        """Whether there is an endpoint that is not paused."""
        with self._database.reading() as connection:
            query = "SELECT 1 FROM endpoints WHERE state = ? LIMIT 1"
            return connection.execute(query, (ACTIVE,)).fetchone() is not None

    def outfits(self) -> list[Outfit]:
        """Return the endpoints that are not paused, with secrets that count now."""
        with self._database.reading() as connection:
            return endpoint_tables.outfits(connection, "state = ? ORDER BY id", (ACTIVE,))

    def end(self) -> int:
        """Return the greatest `seq` that a message ever had; 0 where there was none."""
        with self._database.reading() as connection:
            return end_of(connection, self._words)

    def part(
        self, wanted: MessageFilter, after: int, upto: int, limit: int, max_bytes: int
    ) -> Stretch:
        """Return the first messages behind `after`, up to `upto`, that a filter wants."""
        values: dict[str, Any] = {"after": after, "limit": limit + 1}
        where = self._words.conditions(wanted, values)
        source, most = self._words.by_seq, _SEARCHED_BODIES if where else _SEARCHED
        with self._database.reading() as connection:
            if wanted.topic is not None:
                source = self._words.by_topic
                query = f"SELECT seq FROM {source} WHERE topic = ? AND seq > ? AND seq <= ? "
                last = connection.execute(
                    f"{query} ORDER BY seq LIMIT 1 OFFSET ?", (wanted.topic, after, upto, most - 1)
                ).fetchone()
                upto = upto if last is None else last[0]
                where.append("topic = :topic")
                values["topic"] = wanted.topic
            else:
                if upto - after > most:  # not through a gap step by step
                    query = "SELECT min(seq) FROM messages WHERE seq > ?"
                    first = connection.execute(query, (after,)).fetchone()[0]
                    after = upto if first is None else max(after, min(first - 1, upto))
                upto = min(upto, after + most)
                where.append("topic <> :canary")  # who wants those asks for their topic
                values["canary"] = CANARY_TOPIC
                if wanted.topics != ("*",):
                    where.append(self._words.topic_is_wanted)
                    values |= wanted_topics(wanted)
            where += expiry.hides(connection, self._words)
            values |= {"after": after, "upto": upto, "max_bytes": max_bytes}
            cursor = connection.execute(
                self._words.page_of(source, ["seq > :after", "seq <= :upto", *where], "ASC"), values
            )
            page = take(cursor, StoredMessage._make, limit, max_bytes)
        return Stretch(page.rows, page.rows[-1].seq if page.more else upto)

    def messages(self, seqs: Sequence[int]) -> list[StoredMessage]:
        """Return those of the messages that are still there, and not over."""
        with self._database.reading() as connection:
            where = [
                f"seq IN ({self._words.numbers_of('?')})",
                *expiry.hides(connection, self._words),
            ]
            rows = connection.execute(
                f"SELECT {self._words.message} FROM messages WHERE {' AND '.join(where)}",
                (json.dumps(list(seqs)),),
            )
            return [StoredMessage._make(row) for row in rows]

    def due(self, endpoint: int, now: float, limit: int) -> list[DueRow]:
        """Return the WAITING messages of an endpoint that are due, the longest due first."""
        with self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT {_DUE} FROM deliveries_due "
                "WHERE endpoint = ? AND state = 'waiting' AND due_at <= ? ORDER BY due_at LIMIT ?",
                (endpoint, now, limit),
            )
            return [DueRow._make(row) for row in rows]

    def next_due(self, endpoint: int) -> float | None:
        """Return when the next WAITING message of an endpoint is due; None: there is none."""
        with self._database.reading() as connection:
            row = connection.execute(
                "SELECT min(due_at) FROM deliveries_due WHERE endpoint = ? AND state = 'waiting'",
                (endpoint,),
            ).fetchone()
        return None if row[0] is None else float(row[0])

    def unfinished(self, endpoint: int) -> int:
        """Return how many messages of an endpoint wait or were given up."""
        with self._database.reading() as connection:
            row = connection.execute(
                "SELECT count(*) FROM deliveries_due WHERE endpoint = ?", (endpoint,)
            ).fetchone()
        return int(row[0])

    def ahead(self, endpoint: int, cursor: int) -> frozenset[int]:
        """Return the messages behind a cursor that wait or were given up."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT seq FROM deliveries_due WHERE endpoint = ? AND seq > ?", (endpoint, cursor)
            )
            return frozenset(row[0] for row in rows)

    def lanes(self, endpoint: int) -> list[LaneRow]:
        """Return the lanes of an endpoint."""
        with self._database.reading() as connection:
            query = f"SELECT {_LANE} FROM delivery_lanes WHERE endpoint = ?"
            return [LaneRow._make(row) for row in connection.execute(query, (endpoint,))]

    def replays(self) -> list[ReplayWork]:
        """Return the running replays to endpoints, the oldest first."""
        with self._database.reading() as connection:
            return replay_table.work(connection, to_topic=False)

    def replay_part(self, work: ReplayWork, after: int, limit: int, max_bytes: int) -> ReplayPart:
        """Return the next messages of a replay behind `after`, in a read that is short."""
        with self._database.reading() as connection:
            return replay_part(connection, self._words, work, after, limit, max_bytes)

    def store(self, outcome: DeliveryOutcome) -> None:
        """Store what came of attempts, in one transaction; a power cut can undo it."""
        marks = ", ".join("?" * (len(AttemptRow._fields) - 1))
        with self._database.writing(synced=False, alone="endpoints") as connection:
            connection.executemany(
                f"INSERT INTO deliveries ({_ATTEMPT}) VALUES ({marks})",
                [attempt[1:] for attempt in outcome.attempts],
            )
            for due in outcome.due:
                connection.execute(_CHANGE_DUE if due.id else _ADD_DUE, due._asdict())
            connection.executemany(
                "DELETE FROM deliveries_due WHERE id = ?", [(number,) for number in outcome.done]
            )
            for lane in outcome.lanes:
                connection.execute(_PUT_LANE, lane._asdict())
            connection.executemany(
                "DELETE FROM delivery_lanes WHERE endpoint = ? AND topic = ?", outcome.closed
            )
            connection.executemany(
                _STAND, [_standing(number, each) for number, each in outcome.standings.items()]
            )
            replay_table.stand(connection, outcome.replays)
            connection.executemany(
                "DELETE FROM deliveries_due WHERE endpoint = ? AND seq = ? AND state = 'given-up'",
                outcome.resolved,
            )
            connection.executemany(
                "UPDATE endpoints SET state = 'paused', reason = ? WHERE id = ?",
                [(pause.reason, pause.endpoint) for pause in outcome.pauses],
            )

    def sweep(self, kept: int, before: str) -> bool:
        """Delete a part of the oldest attempts beyond `kept`, or from before a time."""
        with self._database.writing(synced=False, alone="endpoints") as connection:
            gone = connection.execute(
                "DELETE FROM deliveries WHERE id IN ("
                "SELECT id FROM deliveries ORDER BY id LIMIT :most) "
                "AND (at < :before OR id <= (SELECT max(id) FROM deliveries) - :kept)",
                {"most": _SWEPT, "before": before, "kept": kept},
            ).rowcount
        return bool(gone == _SWEPT)


def _standing(number: int, standing: EndpointStanding) -> tuple[Any, ...]:
    s = standing
    return (
        s.cursor, s.failures, s.broken_at, s.retry_at, s.trouble, s.delivered, s.failed,
        s.given_up, s.gone, s.delivered_at, number,
    )  # fmt: skip
