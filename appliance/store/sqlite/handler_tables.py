"""The tables of handlers, as the writer's transaction fills and empties them."""

import hashlib
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from appliance.model import meta as metas
from appliance.model.handler_outcomes import DEAD, DROPPED, HANDLED, HandlerOutcome, result_ids
from appliance.model.handler_rules import HandlerRules
from appliance.model.timestamps import now
from appliance.model.wire import Addressed, Message, as_bytes
from appliance.store.handler_rows import HandlerReply
from appliance.store.rows import EarlierMessage, StoredMessage

INSERT_WAITING: Final = """
    INSERT INTO handler_messages (id, topic, body, received_at, content_type, meta, function)
    VALUES (?, ?, ?, ?, ?, ?, ?)
"""
#: Whatever is known of an id, the more telling first: what was handled can be a row by now, too.
_KNOWN: Final = """
    SELECT topic, NULL, digest FROM handled_messages WHERE id = :id
    UNION ALL SELECT topic, body, NULL FROM handler_messages WHERE id = :id
    UNION ALL SELECT topic, body, NULL FROM messages WHERE id = :id
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
_COLUMNS: Final = "id, topic, body, received_at, content_type, meta"
#: Topics whose function is remembered.
_MOST_KNOWN: Final = 10_000
#: Messages and bytes of bodies that are released in one transaction.
_RELEASED: Final = 1000
_RELEASED_BYTES: Final = 8 * 2**20
#: Results, and bytes of their bodies, that one answer shows.
_REPLIED: Final = 100
_REPLIED_BYTES: Final = 8 * 2**20
_RESULT: Final = """
    SELECT seq, id, topic, received_at, typeof(body) = 'text', CAST(body AS BLOB), content_type,
        meta
    FROM messages WHERE id = ?
"""
STATEMENTS: Final = (INSERT_WAITING, _KNOWN.replace(":id", "?1"))


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


def remembered_topics(connection: Any) -> list[str]:
    """Return the topics of which it is known that messages were handled."""
    return [row[0] for row in connection.execute(TOPICS)]


def waiting_functions(connection: Any) -> list[str]:
    """Return the functions that messages wait for."""
    return [row[0] for row in connection.execute(FUNCTIONS)]


def is_known(connection: Any, topic: str, message: Message) -> bool | None:
    """Return whether the id is that of this very message; None where it is nobody's."""
    row = connection.execute(_KNOWN, {"id": message.id}).fetchone()
    if row is None:
        return None
    if row[0] != topic:
        return False
    same = row[2] == digest(message.body) if row[2] is not None else row[1] == message.body
    return same or metas.is_of_event(message.meta)


def add(connection: Any, function: str, topic: str, message: Message) -> None:
    """Let a message wait for its handler."""
    connection.execute(
        INSERT_WAITING,
        (message.id, topic, message.body, message.received_at, message.content_type, message.meta,
         function),
    )  # fmt: skip


def settle(connection: Any, holder: str, outcome: HandlerOutcome) -> SettledMessage | None:
    """Note an outcome; return what is to be stored of it. None: nothing, or it is another's."""
    row = connection.execute(
        f"SELECT {_COLUMNS}, function FROM handler_messages WHERE seq = ? AND holder = ?",  # noqa: S608  # ours
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
    message_id, topic, body, received_at, content_type, meta, function = row
    connection.execute("DELETE FROM handler_messages WHERE seq = ?", (outcome.seq,))
    count = len(outcome.results or ())
    word = DEAD if outcome.results is None else HANDLED if count else DROPPED
    connection.execute(
        "INSERT OR REPLACE INTO handled_messages VALUES (?, ?, ?, ?, ?, ?)",
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


def take_strays(connection: Any, rules: HandlerRules) -> list[Addressed]:
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
            f"SELECT seq, {_COLUMNS} FROM handler_messages WHERE function = ? "  # noqa: S608  # ours
            "ORDER BY seq LIMIT ?",
            (function, _RELEASED - changed),
        ).fetchall()
        for seq, message_id, topic, body, received_at, content_type, meta in rows:
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


def is_in_hand(connection: Any, topic: str, message: Message) -> bool:
    """Whether a message waits for its handler, or was handled."""
    row = connection.execute(
        "SELECT topic, NULL, digest FROM handled_messages WHERE id = :id "
        "UNION ALL SELECT topic, body, NULL FROM handler_messages WHERE id = :id",
        {"id": message.id},
    ).fetchone()
    if row is None or row[0] != topic:
        return False
    same: bool = row[1] == message.body if row[2] is None else row[2] == digest(message.body)
    return same


def in_hand(connection: Any, prefix: str, limit: int) -> list[EarlierMessage]:
    """Return messages that wait for a handler, or were handled, whose ids begin with `prefix`."""
    values = {"first": prefix + "00000000", "last": prefix + "ffffffff", "limit": limit}
    rows = connection.execute(
        "SELECT id, handled_at, NULL, digest FROM handled_messages "
        "WHERE id BETWEEN :first AND :last "
        "UNION ALL SELECT id, received_at, body, NULL FROM handler_messages "
        "WHERE id BETWEEN :first AND :last ORDER BY 1 LIMIT :limit",
        values,
    )
    return [EarlierMessage._make(row) for row in rows]


def reply(connection: Any, message_id: str) -> HandlerReply | None:
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
        stored = connection.execute(_RESULT, (each,)).fetchone()
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
