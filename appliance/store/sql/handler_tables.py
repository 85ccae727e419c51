"""The tables of handlers, as the writer's transaction fills and empties them."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from appliance.model import meta as metas
from appliance.model.handler_outcomes import DEAD, DROPPED, HANDLED, HandlerOutcome, result_ids
from appliance.model.handler_rules import HandlerRules
from appliance.model.timestamps import now
from appliance.model.wire import Addressed, Message, as_bytes
from appliance.store.handler_rows import HandlerReply
from appliance.store.rows import EarlierMessage, StoredMessage
from appliance.store.sql.database import SqlConnection, SqlWords, body_value

#: Whatever is known of an id, the more telling first: what was handled can be a row by now, too.
_KNOWN: Final = """
    SELECT topic, NULL, NULL, digest FROM handled_messages WHERE id = ?
    UNION ALL SELECT topic, {0}, NULL FROM handler_messages WHERE id = ?
    UNION ALL SELECT topic, {0}, NULL FROM messages WHERE id = ?
"""
_IN_HAND: Final = """
    SELECT topic, NULL, NULL, digest FROM handled_messages WHERE id = ?
    UNION ALL SELECT topic, {0}, NULL FROM handler_messages WHERE id = ?
"""
#: Each topic costs one step in the index, however many messages of it were handled.
TOPICS: Final = """
    WITH RECURSIVE each(topic) AS (
        SELECT min(topic) FROM handled_messages
        UNION ALL
        SELECT (SELECT min(topic) FROM handled_messages WHERE topic > each.topic) FROM each
        WHERE each.topic IS NOT NULL
    )
    SELECT topic FROM each WHERE topic IS NOT NULL
"""
FUNCTIONS: Final = """
    WITH RECURSIVE each(function) AS (
        SELECT min(function) FROM handler_messages
        UNION ALL
        SELECT (SELECT min(function) FROM handler_messages WHERE function > each.function)
        FROM each WHERE each.function IS NOT NULL
    )
    SELECT function FROM each WHERE function IS NOT NULL
"""
_COLUMNS: Final = "id, topic, received_at, content_type, meta"
#: Topics whose function is remembered.
_MOST_KNOWN: Final = 10_000
#: Messages and bytes of bodies that are released in one transaction.
_RELEASED: Final = 1000
_RELEASED_BYTES: Final = 8 * 2**20
#: Results, and bytes of their bodies, that one answer shows.
_REPLIED: Final = 100
_REPLIED_BYTES: Final = 8 * 2**20


class HandledTopics:
    """The topics that have a handler now, and those that had one: what was handled is known."""

    def __init__(self, rules: HandlerRules, remembered: Iterable[str]) -> None:
        self.rules = rules
        self._remembered = frozenset(remembered)
        self._known: dict[str, str | None] = {}

    def __bool__(self) -> bool:
        return bool(self.rules) or bool(self._remembered)

    def of(self, topic: str) -> str | None:
        """Return the topic's function; empty: it had one; None: there is nothing to be done."""
        try:
            return self._known[topic]  # each message of each topic is asked for
        except KeyError:
            function = self.rules.of(topic)
            if function is None and topic in self._remembered:
                function = ""
            if len(self._known) < _MOST_KNOWN:
                self._known[topic] = function
            return function


class SettledMessage(NamedTuple):
    """What is left to be stored of an outcome: rows, or a dead letter with its error."""

    id: str
    results: list[Addressed]
    dead: Addressed | None = None


def remembered_topics(connection: SqlConnection) -> list[str]:
    """Return the topics of which it is known that messages were handled."""
    return [row[0] for row in connection.execute(TOPICS)]


def statements(words: SqlWords) -> tuple[str, ...]:
    """Return what storing needs of the tables."""
    return _insert(words), _KNOWN.format(words.body_pair)


def waiting_functions(connection: SqlConnection) -> list[str]:
    """Return the functions that messages wait for."""
    return [row[0] for row in connection.execute(FUNCTIONS)]


def is_known(
    connection: SqlConnection, words: SqlWords, topic: str, message: Message
) -> bool | None:
    """Return whether the id is that of this very message; None where it is nobody's."""
    query = _KNOWN.format(words.body_pair)
    row = connection.execute(query, (message.id, message.id, message.id)).fetchone()
    if row is None:
        return None
    return _is_same(row, topic, message) or (row[0] == topic and metas.is_of_event(message.meta))


def _is_same(row: Sequence[Any], topic: str, message: Message) -> bool:
    known_topic, text, other, known_digest = row
    if known_topic != topic:
        return False
    if known_digest is not None:
        return bool(known_digest == digest(message.body))
    return bool(body_value(text, other) == message.body)


def add(
    connection: SqlConnection, words: SqlWords, function: str, topic: str, message: Message
) -> None:
    """Let a message wait for its handler."""
    connection.execute(
        _insert(words),
        (message.id, topic, *words.body_values(message.body), message.received_at,
         message.content_type, message.meta, function),
    )  # fmt: skip


def _insert(words: SqlWords) -> str:
    return (
        f"INSERT INTO handler_messages (id, topic, {words.body_names}, received_at, "  # noqa: S608  # ours
        f"content_type, meta, function) VALUES (?, ?, {words.body_marks}, ?, ?, ?, ?)"
    )


def settle(
    connection: SqlConnection, words: SqlWords, holder: str, outcome: HandlerOutcome
) -> SettledMessage | None:
    """Note an outcome; return what is to be stored of it. None: nothing, or it is another's."""
    row = connection.execute(
        f"SELECT {_COLUMNS}, {words.body_pair}, function FROM handler_messages "  # noqa: S608  # ours
        "WHERE seq = ? AND holder = ?",
        (outcome.seq, holder),
    ).fetchone()
    if row is None:
        return None
    if outcome.results is None and outcome.retry_at is not None:
        connection.execute(
            "UPDATE handler_messages SET holder = '', attempts = ?, error = ?, due_at = ? "
            "WHERE seq = ?",
            (outcome.attempts, outcome.error, outcome.retry_at, outcome.seq),
        )
        return None
    message_id, topic, received_at, content_type, meta, text_body, other, function = row
    body = body_value(text_body, other)
    connection.execute("DELETE FROM handler_messages WHERE seq = ?", (outcome.seq,))
    count = len(outcome.results or ())
    word = DEAD if outcome.results is None else HANDLED if count else DROPPED
    connection.execute(
        "INSERT INTO handled_messages VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
        "topic = excluded.topic, digest = excluded.digest, handled_at = excluded.handled_at, "
        "outcome = excluded.outcome, results = excluded.results",
        (message_id, topic, digest(body), now(), word, count),
    )
    if outcome.results is None:
        message = Message(message_id, received_at, body, content_type, meta)
        return SettledMessage(message_id, [], (topic, message))
    came_of = {"handler": function}
    if count > 1:
        came_of["handler_input"] = message_id
    text = metas.extended(meta, came_of)
    ids = result_ids(message_id, count)
    return SettledMessage(
        message_id,
        [
            (to, Message(each, received_at, result.body, result.content_type, text))
            for each, (to, result) in zip(ids, outcome.results, strict=True)
        ],
    )


def take_strays(connection: SqlConnection, words: SqlWords, rules: HandlerRules) -> list[Addressed]:
    """Give some messages whose function no rule names the one that their topic has now.

    Those that have none are removed and returned, to become rows as they came.
    """
    taken: list[Addressed] = []
    size = changed = 0
    known = set(rules.functions)
    for function in waiting_functions(connection):
        if function in known:
            continue
        rows = connection.execute(
            f"SELECT seq, {_COLUMNS}, {words.body_pair} FROM handler_messages WHERE function = ? "  # noqa: S608  # ours
            "ORDER BY seq LIMIT ?",
            (function, _RELEASED - changed),
        ).fetchall()
        for seq, message_id, topic, received_at, content_type, meta, text, other in rows:
            body = body_value(text, other)
            size += len(as_bytes(body))
            changed += 1
            if changed > 1 and size > _RELEASED_BYTES:
                return taken
            if new := rules.of(topic):
                connection.execute(
                    "UPDATE handler_messages SET function = ?, holder = '' WHERE seq = ?",
                    (new, seq),
                )
            else:
                connection.execute("DELETE FROM handler_messages WHERE seq = ?", (seq,))
                taken.append((topic, Message(message_id, received_at, body, content_type, meta)))
        if changed >= _RELEASED:
            break
    return taken


def is_in_hand(connection: SqlConnection, words: SqlWords, topic: str, message: Message) -> bool:
    """Whether a message waits for its handler, or was handled."""
    query = _IN_HAND.format(words.body_pair)
    row = connection.execute(query, (message.id, message.id)).fetchone()
    return row is not None and _is_same(row, topic, message)


def in_hand(
    connection: SqlConnection, words: SqlWords, prefix: str, limit: int
) -> list[EarlierMessage]:
    """Return messages that wait for a handler, or were handled, whose ids begin with `prefix`."""
    values = {"first": prefix + "00000000", "last": prefix + "ffffffff", "limit": limit}
    rows = connection.execute(
        "SELECT id, handled_at, NULL, NULL, digest FROM handled_messages "  # noqa: S608  # ours
        "WHERE id BETWEEN :first AND :last "
        f"UNION ALL SELECT id, received_at, {words.body_pair}, NULL FROM handler_messages "
        "WHERE id BETWEEN :first AND :last ORDER BY 1 LIMIT :limit",
        values,
    )
    return [
        EarlierMessage(message_id, at, body_value(text, other), known_digest)
        for message_id, at, text, other, known_digest in rows
    ]


def reply(connection: SqlConnection, words: SqlWords, message_id: str) -> HandlerReply | None:
    """Return what its handler said of a message; None where it has not said anything."""
    row = connection.execute(
        "SELECT outcome, results FROM handled_messages WHERE id = ?", (message_id,)
    ).fetchone()
    if row is None:
        return None
    outcome, count = row
    if outcome == DEAD:
        letter = connection.execute(
            "SELECT reason, error FROM dead_letters WHERE id = ? ORDER BY seq DESC LIMIT 1",
            (message_id,),
        ).fetchone()
        return HandlerReply(outcome, 0, [], *(letter or (None, None)))
    found: list[StoredMessage] = []
    size = 0
    for each in result_ids(message_id, min(count, _REPLIED)) if count else ():
        query = (
            f"SELECT seq, id, topic, received_at, {words.body}, content_type, meta "  # noqa: S608  # ours
            "FROM messages WHERE id = ?"
        )
        stored = connection.execute(query, (each,)).fetchone()
        if stored is not None:
            result = StoredMessage._make(stored)
            size += len(result.body)
            if found and size > _REPLIED_BYTES:
                break
            found.append(result)
    return HandlerReply(outcome, count, found)


def digest(body: str | bytes) -> bytes:
    """Return what is remembered of a body."""
    return hashlib.sha256(as_bytes(body)).digest()
