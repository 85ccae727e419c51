"""Rows of messages in PostgreSQL: those that are refused are left out, and all beside them stored.

An error undoes what the transaction did since a savepoint. So rows are inserted by one statement,
and where one of them is refused, by halves, until the row is found.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import psycopg

from appliance.errors import EnvelopeError, TablesError
from appliance.model import meta as metas
from appliance.model.contents import ReplayCopies
from appliance.model.ids import PREFIX_LENGTH
from appliance.model.wire import Envelope, addressed, unpack
from appliance.store.postgresql import refusal
from appliance.store.postgresql.connections import PostgresConnection
from appliance.store.postgresql.sql_database import WORDS
from appliance.store.sql import replay_table
from appliance.store.sql.message_rows import DeadRow, LinesRefusedError, Row
from appliance.store.sql.message_tables import ADD_TO_TOPIC, MessageTables
from appliance.store.sql.topic_sums import Sum

#: Take the next places. The row's lock is the order of storing: held until the commit. Rows that
#: another program put behind the last place are stepped over, as the default of `seq` does; but
#: not those from 2**53 on: nobody gets there, and JSON's readers can't tell such numbers apart.
_NEWEST: Final = "SELECT max(seq) FROM messages WHERE seq < 9007199254740992"
_TAKE: Final = f"""
    UPDATE shards SET last_seq = greatest(last_seq, ({_NEWEST})) + %s
    WHERE shard = 0 RETURNING last_seq
"""  # noqa: S608  # ours
_INSERT: Final = """
    INSERT INTO messages (seq, id, topic, body, body_bytes, received_at, content_type, meta)
    SELECT %s + place, id, topic, body, body_bytes, received_at, nullif(content_type, ''),
        nullif(meta, '')
    FROM unnest(%b::text[], %b::text[], %b::text[], %b::bytea[], %b::text[], %b::text[],
        %b::text[]) WITH ORDINALITY
        AS row (id, topic, body, body_bytes, received_at, content_type, meta, place)
    ON CONFLICT (id) DO NOTHING
"""
#: A line that is no string becomes NULL, which the table refuses, and with it the whole envelope.
_INSERT_LINES: Final = """
    INSERT INTO messages (seq, id, topic, body, received_at, content_type, meta)
    SELECT %s + place, %s || lpad(to_hex(%s + place), 8, '0'), %s,
        CASE json_typeof(line) WHEN 'string' THEN line #>> '{}' END, %s, %s, %s
    FROM json_array_elements(%s::json) WITH ORDINALITY AS each (line, place)
    ON CONFLICT (id) DO NOTHING
"""
_INSERT_DEAD: Final = """
    INSERT INTO dead_letters (
        id, topic, body, reason, error, received_at, dead_at, content_type, meta
    ) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (id, reason, sha256(body)) DO UPDATE SET dead_at = excluded.dead_at
"""
_ADD_EXPIRATIONS: Final = f"""
    INSERT INTO expirations (seq, expires_at)
    SELECT seq, appliance_meta(meta) ->> '{metas.EXPIRES_AT}' FROM messages
    WHERE seq > %s AND position('"{metas.EXPIRES_AT}":' in meta) > 0
        AND jsonb_typeof(appliance_meta(meta) -> '{metas.EXPIRES_AT}') = 'string'
    ON CONFLICT DO NOTHING
"""  # noqa: S608  # ours
_PLACE_DELETION: Final = """
    UPDATE deletions SET until_seq = (SELECT coalesce(max(seq), 0) FROM messages),
        reached = 0, ended_at = NULL
    WHERE id = ?
"""
#: What no text of PostgreSQL's can have, and what stands for it.
_NUL: Final = "\0"
_INSTEAD: Final = "\ufffd"


class PostgresRows(MessageTables):
    """The tables, on a connection on which a transaction was begun."""

    def __init__(self, connection: PostgresConnection) -> None:
        super().__init__(connection, WORDS)
        self._driver = connection.driver
        self._last = self._tried = self._take(0)

    def last_seq(self) -> int:
        """Return the greatest `seq` that a message ever had; 0 where there was none."""
        return self._last

    def _take(self, count: int) -> int:
        """Take places; return the one before the first of them."""
        row = self._driver.execute(_TAKE, (count,)).fetchone()
        if row is None:
            raise TablesError("the table shards has no row")
        self._tried = int(row[0]) - count
        return self._tried

    def insert(self, rows: Sequence[Row], refused: dict[str, str]) -> int:
        """Insert messages whose id is not there yet; return how many they are."""
        if not rows:
            return 0
        try:
            with self._savepoint():
                return self._insert(rows)
        except (psycopg.Error, ValueError, TypeError) as error:
            if self._is_place_taken(error):
                return self.insert(rows, refused)
            refusal.blame(error) if isinstance(error, psycopg.Error) else None
            if len(rows) == 1:
                refused[rows[0][0]] = refusal.words(error)
                return 0
        half = len(rows) // 2
        return self.insert(rows[:half], refused) + self.insert(rows[half:], refused)

    def _insert(self, rows: Sequence[Row]) -> int:
        ids, topics, bodies, times, content_types, meta = zip(*rows, strict=True)
        texts = [body if isinstance(body, str) else None for body in bodies]
        others = [body if isinstance(body, bytes) else None for body in bodies]
        place = self._take(len(rows))
        inserted = self._driver.execute(
            _INSERT,
            (place, list(ids), list(topics), texts, others, list(times), list(content_types),
             list(meta)),
        ).rowcount  # fmt: skip
        self._last = place + len(rows)
        return inserted

    def insert_lines(self, envelope: Envelope) -> int:
        """Insert the lines of an envelope whose ids are not there yet; return how many they are."""
        prefix, first = envelope.id[:PREFIX_LENGTH], int(envelope.id[PREFIX_LENGTH:], 16)
        try:
            text = envelope.body.decode()
        except UnicodeDecodeError as error:
            raise EnvelopeError("undecodable", f"lines: {error}") from error
        values = (
            prefix, first - 1, envelope.topic, envelope.received_at,
            envelope.content_type or None, envelope.meta or None, text,
        )  # fmt: skip
        try:
            with self._savepoint():
                place = self._take(envelope.count)
                inserted = self._driver.execute(_INSERT_LINES, (place, *values)).rowcount
                if inserted != envelope.count:
                    unpack(envelope)  # raises unless it is sound and was stored before
        except psycopg.Error as error:
            if self._is_place_taken(error):
                return self.insert_lines(envelope)
            addressed(envelope)  # raises EnvelopeError where it is not sound
            refusal.blame(error)
            raise LinesRefusedError(str(error)) from error
        self._last = place + envelope.count
        return inserted

    def add_to_topics(self, sums: Sequence[Sum]) -> None:
        """Add to the counters of topics, but for those that are refused."""
        self._each(sums, lambda part: self._connection.executemany(ADD_TO_TOPIC, part))

    def add_expirations(self, after: int) -> None:
        """Note when messages behind a place are over, of those that have an end."""
        self._driver.execute(_ADD_EXPIRATIONS, (after,))

    def insert_dead(self, rows: Sequence[DeadRow]) -> None:
        """Insert dead letters; one that is there gets a new time."""
        shown = [
            tuple(v.replace(_NUL, _INSTEAD) if isinstance(v, str) else v for v in row)
            for row in rows
        ]
        try:
            with self._driver.cursor() as cursor:
                cursor.executemany(_INSERT_DEAD, shown)
        except psycopg.Error as error:
            refusal.blame(error)
            raise TablesError(
                f"not even a dead letter can be stored: {refusal.words(error)}"
            ) from error

    def place_deletion(self, deletion_id: str) -> None:
        """Note that the mark of an order to delete came."""
        self._connection.execute(_PLACE_DELETION, (deletion_id,))

    def advance_replay(self, copies: ReplayCopies) -> bool:
        """Note which messages a replay copies; return whether it still stands where they begin."""
        return replay_table.advance(
            self._connection, copies.replay, copies.after, copies.reached, copies.count, copies.gone
        )

    def _is_place_taken(self, error: Exception) -> bool:
        """Whether another program put rows into our places since they were taken."""
        if not isinstance(error, psycopg.errors.UniqueViolation):
            return False
        newest = self._connection.execute(_NEWEST).fetchone()[0]
        return newest is not None and newest > self._tried

    def _each(self, rows: Sequence[Sum], work: Callable[[Sequence[Sum]], object]) -> None:
        """Do the work with all rows but those that are refused."""
        if not rows:
            return
        try:
            with self._savepoint():
                work(rows)
        except psycopg.Error as error:
            refusal.blame(error)
            half = len(rows) // 2
            if half:
                self._each(rows[:half], work)
                self._each(rows[half:], work)

    @contextmanager
    def _savepoint(self) -> Iterator[None]:
        """Undo what the block did where it raises, and nothing before it."""
        self._driver.execute("SAVEPOINT part")
        try:
            yield
        except BaseException:
            if not self._driver.broken:
                self._driver.execute("ROLLBACK TO part")
            raise
        self._driver.execute("RELEASE part")
