"""The table `delayed_messages`, as the writer's transaction fills and empties it."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Final

from appliance.model import meta as metas
from appliance.model import timestamps
from appliance.model.wire import Addressed, Message, as_bytes
from appliance.store.sql.database import SqlConnection, SqlWords

#: Messages and bytes of bodies that become rows in one transaction.
MOST_AT_ONCE: Final = 1000
_MOST_BYTES: Final = 8 * 2**20
#: How long a cancelled message is remembered: until its envelope can't come again any more, because
#: nobody acknowledged it.
_REMEMBERED: Final = timedelta(days=1)


def add(
    connection: SqlConnection, words: SqlWords, topic: str, message: Message, due_at: str
) -> bool:
    """Add a message, unless its id is known; return whether it is that very message."""
    known = connection.execute(
        f"SELECT topic, cancelled_at, {words.body} FROM delayed_messages WHERE id = ? "  # noqa: S608  # ours
        f"UNION ALL SELECT topic, NULL, {words.body} FROM messages WHERE id = ?",
        (message.id, message.id),
    ).fetchone()
    if known is not None:
        there, cancelled_at, _, body = known
        return cancelled_at is not None or (there, body) == (topic, as_bytes(message.body))
    connection.execute(
        "INSERT INTO delayed_messages "  # noqa: S608  # ours
        f"(id, topic, content_type, meta, accepted_at, due_at, {words.body_names}) "
        f"VALUES (?, ?, ?, ?, ?, ?, {words.body_marks})",
        (message.id, topic, message.content_type, message.meta, message.received_at, due_at,
         *words.body_values(message.body)),
    )  # fmt: skip
    return True


def take_due(connection: SqlConnection, words: SqlWords, at: str) -> list[Addressed]:
    """Remove messages that are due at `at`, those due first, and return them as they are stored.

    Each is received at `at`: lists and retention go by when a message came into them. Its meta says
    when it was accepted. There are more where as many as are taken at once are returned.
    """
    connection.execute(
        "DELETE FROM delayed_messages WHERE cancelled_at IS NOT NULL AND due_at <= ?", (at,)
    )
    due = connection.execute(
        f"SELECT seq, {words.body_bytes} FROM delayed_messages "  # noqa: S608  # ours
        "WHERE due_at <= ? ORDER BY due_at, seq LIMIT ?",
        (at, MOST_AT_ONCE),
    ).fetchall()
    fitting: list[int] = []
    size = 0
    for seq, body_bytes in due:
        size += body_bytes
        if fitting and size > _MOST_BYTES:
            break
        fitting.append(seq)
    # One that is cancelled meanwhile stays.
    rows = connection.execute(
        f"DELETE FROM delayed_messages WHERE seq IN ({words.numbers_of('?')}) "  # noqa: S608  # ours
        "AND cancelled_at IS NULL "
        f"RETURNING due_at, seq, id, topic, content_type, meta, accepted_at, {words.body}",
        (json.dumps(fitting),),
    ).fetchall()
    taken: list[Addressed] = []
    for _, _, message_id, topic, content_type, meta, accepted_at, is_text, body in sorted(
        rows, key=itemgetter(0, 1)
    ):
        text = metas.extended(meta, {"accepted_at": accepted_at})
        content = body.decode() if is_text else body
        taken.append((topic, Message(message_id, at, content, content_type, text)))
    return taken


def cancel(connection: SqlConnection, words: SqlWords, message_id: str) -> Sequence[str] | None:
    """Forget the body of a message that waits; return its topic and due time (None: none waits).

    Its id is remembered for a day: its envelope can come once more.
    """
    row: Sequence[str] | None = connection.execute(
        "SELECT topic, due_at FROM delayed_messages WHERE id = ? AND cancelled_at IS NULL",
        (message_id,),
    ).fetchone()
    if row is None:
        return None
    now = timestamps.now()
    until = datetime.fromisoformat(now) + _REMEMBERED
    # It can have become a row since it was read.
    cancelled = connection.execute(
        "UPDATE delayed_messages SET cancelled_at = ?, due_at = ?, meta = NULL, "  # noqa: S608  # ours
        f"({words.body_names}) = ({words.body_marks}) WHERE id = ? AND cancelled_at IS NULL",
        (now, timestamps.timestamp(until.timestamp()), *words.body_values(""), message_id),
    ).rowcount
    return row if cancelled else None
