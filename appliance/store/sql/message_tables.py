"""The part of `MessageRows` that is the same SQL for every engine."""

from collections.abc import Mapping
from typing import Final

from appliance.model.handler_outcomes import HandlerOutcome
from appliance.model.handler_rules import HandlerRules
from appliance.model.wire import Addressed, Message
from appliance.store.sql import delayed_table, handler_tables
from appliance.store.sql.database import SqlConnection, SqlWords, body_value
from appliance.store.sql.handler_tables import SettledMessage
from appliance.store.sql.topic_sums import Sum

ADD_TO_TOPIC: Final = """
    INSERT INTO topics (topic, messages, bytes, first_at, last_at) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (topic) DO UPDATE SET
        messages = topics.messages + excluded.messages,
        bytes = topics.bytes + excluded.bytes,
        first_at = CASE WHEN excluded.first_at < topics.first_at
            THEN excluded.first_at ELSE topics.first_at END,
        last_at = CASE WHEN excluded.last_at > topics.last_at
            THEN excluded.last_at ELSE topics.last_at END
"""


def count_since(words: SqlWords) -> str:
    """Return the query of the sums of the messages behind a place."""
    return (
        f"SELECT topic, count(*), sum({words.body_bytes}), min(received_at), max(received_at) "  # noqa: S608  # ours
        "FROM messages WHERE seq > ? GROUP BY topic"
    )


class MessageTables:
    """Reads and writes on `connection`, within the caller's transaction."""

    def __init__(self, connection: SqlConnection, words: SqlWords) -> None:
        self._connection = connection
        self._words = words

    def last_seq(self) -> int:
        """Return the greatest `seq` that a message ever had; 0 where there was none."""
        query = f"SELECT {self._words.last_seq}"  # ours
        return int(self._connection.execute(query).fetchone()[0])

    def find(self, message_id: str) -> tuple[str, str | bytes] | None:
        """Return topic and body of a stored message, or None."""
        row = self._connection.execute(
            f"SELECT topic, {self._words.body_pair} FROM messages WHERE id = ?",  # noqa: S608  # ours
            (message_id,),
        ).fetchone()
        return None if row is None else (row[0], body_value(row[1], row[2]))

    def since(self, seq: int) -> Mapping[str, tuple[str, str | bytes]]:
        """Return topic and body of each message behind a place, by id."""
        query = f"SELECT id, topic, {self._words.body_pair} FROM messages WHERE seq > ?"  # noqa: S608  # ours
        rows = self._connection.execute(query, (seq,))
        return {each: (topic, body_value(text, other)) for each, topic, text, other in rows}

    def is_any_since(self, seq: int) -> bool:
        """Whether there is a message behind a place."""
        query = "SELECT 1 FROM messages WHERE seq > ? LIMIT 1"
        return self._connection.execute(query, (seq,)).fetchone() is not None

    def sums_since(self, seq: int) -> list[Sum]:
        """Return the sums of the messages behind a place, one for each topic."""
        return self._connection.execute(count_since(self._words), (seq,)).fetchall()

    def delay(self, topic: str, message: Message, due_at: str) -> bool:
        """Put a message aside until it is due; return False where its id is another's."""
        return delayed_table.add(self._connection, self._words, topic, message, due_at)

    def take_due(self, at: str) -> list[Addressed]:
        """Remove messages that are due, and return them as they are stored."""
        return delayed_table.take_due(self._connection, self._words, at)

    def is_known_to_handlers(self, topic: str, message: Message) -> bool | None:
        """Return whether the id is that of this very message; None where it is nobody's."""
        return handler_tables.is_known(self._connection, self._words, topic, message)

    def add_waiting(self, function: str, topic: str, message: Message) -> None:
        """Let a message wait for its handler."""
        handler_tables.add(self._connection, self._words, function, topic, message)

    def settle(self, holder: str, outcome: HandlerOutcome) -> SettledMessage | None:
        """Note what became of a message; return what is to be stored of it."""
        return handler_tables.settle(self._connection, self._words, holder, outcome)

    def take_strays(self, rules: HandlerRules) -> list[Addressed]:
        """Remove messages that wait for a handler that is none any more, and return them."""
        return handler_tables.take_strays(self._connection, self._words, rules)

    def is_in_hand(self, topic: str, message: Message) -> bool:
        """Whether a message waits for its handler, or was handled."""
        return handler_tables.is_in_hand(self._connection, self._words, topic, message)
