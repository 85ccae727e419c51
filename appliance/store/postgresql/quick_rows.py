"""Rows of messages, on the assumption that all is as it nearly always is.

Then no message is stored already, and none is refused: so nothing need be asked before the commit,
and all statements go to the server in one round trip. Where the assumption proves wrong, the
transaction is undone, and `PostgresRows` stores everything with care.
"""

from collections.abc import Sequence
from typing import Any, Final, NoReturn

import orjson

from appliance.model import meta as metas
from appliance.model.ids import PREFIX_LENGTH
from appliance.model.wire import Envelope
from appliance.store.postgresql.pipeline import (
    BYTES,
    TEXT,
    Pipeline,
    array,
    bound,
    nothing,
    numbers,
    texts,
    unbound,
)
from appliance.store.sql.message_rows import Row
from appliance.store.sql.topic_sums import Sum

#: The row whose lock is the order of storing: held until the commit. Nobody else has stored since.
MOVE: Final = "UPDATE shards SET last_seq = ? WHERE shard = 0 AND last_seq = ?"
INSERT_ONE: Final = """
    INSERT INTO messages (seq, id, topic, body, body_bytes, received_at, content_type, meta)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
_INSERT: Final = """
    INSERT INTO messages (seq, id, topic, body, body_bytes, received_at, content_type, meta)
    SELECT ? + place, id, topic, body, body_bytes, received_at, nullif(content_type, ''),
        nullif(meta, '')
    FROM unnest(?::text[], ?::text[], ?::text[], ?::bytea[], ?::text[], ?::text[], ?::text[])
        WITH ORDINALITY
        AS row (id, topic, body, body_bytes, received_at, content_type, meta, place)
"""
#: The server splits the lines, which takes it a third of what JSON takes. They are all texts, and
#: none has an end of a line within it.
INSERT_LINES: Final = """
    INSERT INTO messages (seq, id, topic, body, received_at, content_type, meta)
    SELECT ? + place, ? || lpad(to_hex(?::bigint + place), 8, '0'), ?, line, ?, ?, ?
    FROM string_to_table(?, chr(10)) WITH ORDINALITY AS each (line, place)
"""
_ADD_TOPICS: Final = """
    INSERT INTO topics (topic, messages, bytes, first_at, last_at)
    SELECT * FROM unnest(?::text[], ?::bigint[], ?::bigint[], ?::text[], ?::text[])
    ON CONFLICT (topic) DO UPDATE SET
        messages = topics.messages + excluded.messages,
        bytes = topics.bytes + excluded.bytes,
        first_at = least(topics.first_at, excluded.first_at),
        last_at = greatest(topics.last_at, excluded.last_at)
"""
ADD_ONE_TOPIC: Final = _ADD_TOPICS.replace(
    "SELECT * FROM unnest(?::text[], ?::bigint[], ?::bigint[], ?::text[], ?::text[])",
    "VALUES (?, ?, ?, ?, ?)",
)
_ADD_EXPIRATIONS: Final = f"""
    INSERT INTO expirations (seq, expires_at)
    SELECT seq, appliance_meta(meta) ->> '{metas.EXPIRES_AT}' FROM messages
    WHERE seq > ? AND position('"{metas.EXPIRES_AT}":' in meta) > 0
        AND jsonb_typeof(appliance_meta(meta) -> '{metas.EXPIRES_AT}') = 'string'
    ON CONFLICT DO NOTHING
"""  # noqa: S608  # ours
STATEMENTS: Final = (MOVE, INSERT_ONE, _INSERT, INSERT_LINES, _ADD_TOPICS, ADD_ONE_TOPIC)
#: Where several workers store: the row's lock is taken first, and the place is what it says then.
_MOVE_ON: Final = "UPDATE shards SET last_seq = last_seq + ? WHERE shard = 0"
_PLACE: Final = "(SELECT last_seq FROM shards WHERE shard = 0) + ?"
_PLACED: Final = {
    statement: statement.replace("?", _PLACE, 1)
    for statement in (INSERT_ONE, _INSERT, INSERT_LINES, _ADD_EXPIRATIONS)
}
SHARED_STATEMENTS: Final = (_MOVE_ON, *_PLACED.values(), _ADD_TOPICS, ADD_ONE_TOPIC)
_TEXT: Final = {str}


class NotPlainError(Exception):
    """Something must be asked, or a value is no plain one: so it is stored with care."""


class _Promise:
    """What a statement that is not run yet is to come to: one changed row."""

    rowcount = 1

    def fetchone(self) -> NoReturn:
        raise NotPlainError


class QuickRows:
    """Statements that are to be run in one transaction; the last message so far is at `after`."""

    def __init__(self, pipeline: Pipeline, after: int) -> None:
        self._pipeline = pipeline
        self._after = self.last = after
        self._steps: list[tuple[bytes, Sequence[bytes | None], int | None]] = []

    def run(self) -> None:
        """Run the statements in a transaction, whose commit is the caller's.

        Raises psycopg's error, or UnexpectedError; the transaction is open then.
        """
        if self.last != self._after:
            move = (self._pipeline.prepare(MOVE), (bound(self.last), bound(self._after)), 1)
            self._steps.insert(0, move)
        self._pipeline.run(self._steps)

    def _add(self, statement: str, values: Sequence[bytes | None], count: int | None) -> None:
        self._steps.append((self._pipeline.prepare(statement), values, count))

    def execute(self, statement: str, values: Sequence[object]) -> Any:
        """Run a statement of the ledger's, which is to change one row."""
        self._add(statement, [bound(value) for value in values], 1)
        return _Promise()

    def last_seq(self) -> int:
        """Return the greatest `seq` that a message ever had."""
        return self._after

    def insert(self, rows: Sequence[Row], refused: dict[str, str]) -> int:  # noqa: ARG002
        """Insert messages; return how many they are."""
        if len(rows) == 1:
            ((message_id, topic, body, received_at, content_type, meta),) = rows
            text, other = _columns(body)
            self._add(
                INSERT_ONE,
                (bound(self.last + 1), message_id.encode(), topic.encode(), text, other,
                 received_at.encode(), content_type.encode() or None, meta.encode() or None),
                1,
            )  # fmt: skip
        else:
            self._insert_many(rows)
        self.last += len(rows)
        return len(rows)

    def _insert_many(self, rows: Sequence[Row]) -> None:
        ids, topics, bodies, times, content_types, more = zip(*rows, strict=True)
        if set(map(type, bodies)) == _TEXT:
            plain, other = texts(bodies), nothing(BYTES)
        else:
            columns = [_columns(body) for body in bodies]
            plain = array(TEXT, [text for text, _ in columns])
            other = array(BYTES, [each for _, each in columns])
        self._add(
            _INSERT,
            (bound(self.last), texts(ids), texts(topics), plain, other, texts(times),
             texts(content_types) if any(content_types) else nothing(TEXT),
             texts(more) if any(more) else nothing(TEXT)),
            len(rows),
        )  # fmt: skip

    def insert_lines(self, envelope: Envelope) -> int:
        """Insert the lines of an envelope; return how many they are."""
        count = envelope.count
        try:
            text = "\n".join(orjson.loads(envelope.body)).encode()
        except (ValueError, TypeError) as error:
            raise NotPlainError from error
        if text.count(b"\n") != count - 1:
            raise NotPlainError
        first = int(envelope.id[PREFIX_LENGTH:], 16)
        if first + count > 2**32:
            raise NotPlainError
        self._add(
            INSERT_LINES,
            (bound(self.last), envelope.id[:PREFIX_LENGTH].encode(), bound(first - 1),
             envelope.topic.encode(), envelope.received_at.encode(),
             (envelope.content_type or "").encode() or None,
             (envelope.meta or "").encode() or None, text),
            count,
        )  # fmt: skip
        self.last += count
        return count

    def add_to_topics(self, sums: Sequence[Sum]) -> None:
        """Add to the counters of topics."""
        if len(sums) == 1:
            self._add(ADD_ONE_TOPIC, [bound(value) for value in sums[0]], None)
        elif sums:
            topics, messages, sizes, first, last = zip(*sums, strict=True)
            self._add(
                _ADD_TOPICS,
                (texts(topics), numbers(messages), numbers(sizes), texts(first), texts(last)),
                None,
            )

    def add_expirations(self, after: int) -> None:
        """Note when messages behind a place are over, of those that have an end."""
        self._add(_ADD_EXPIRATIONS, (bound(after),), None)

    def __getattr__(self, name: str) -> NoReturn:
        """Raise NotPlainError: every other question of `MessageRows` takes an answer now."""
        raise NotPlainError(name)


class SharedQuickRows(QuickRows):
    """The same where others store too, so that nobody knows the last place before the lock."""

    def __init__(self, pipeline: Pipeline) -> None:
        super().__init__(pipeline, 0)
        self._placed: list[int] = []  # steps whose first value is a place

    def run(self) -> None:
        """Run the statements in a transaction, whose commit is the caller's."""
        count = self.last
        for number in self._placed:  # from the first of these messages, to the last place
            name, (place, *values), rows = self._steps[number]
            assert place is not None  # noqa: S101  # a place
            self._steps[number] = name, (bound(unbound(place) - count), *values), rows
        if count:
            self._steps.insert(0, (self._pipeline.prepare(_MOVE_ON), (bound(count),), 1))
        self._pipeline.run(self._steps)

    def _add(self, statement: str, values: Sequence[bytes | None], count: int | None) -> None:
        placed = _PLACED.get(statement)
        if placed is not None:
            self._placed.append(len(self._steps))
        super()._add(placed or statement, values, count)


def _columns(body: str | bytes) -> tuple[bytes | None, bytes | None]:
    """Return a body's two columns."""
    return (None, body) if isinstance(body, bytes) else (body.encode(), None)
