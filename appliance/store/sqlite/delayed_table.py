"""The table `delayed_messages`, as the writer's transaction fills and empties it."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from appliance.model import meta as metas
from appliance.model import timestamps
from appliance.model.wire import Addressed, Message, as_bytes

#: Messages and bytes of bodies that become rows in one transaction.
MOST_AT_ONCE: Final = 1000
_MOST_BYTES: Final = 8 * 2**20
#: How long a cancelled message is remembered: until its envelope can't come again any more, because
#: nobody acknowledged it.
_REMEMBERED: Final = timedelta(days=1)


def add(connection: Any, topic: str, message: Message, due_at: str) -> bool:
    """Add a message, unless its id is known; return whether it is that very message."""
    known = connection.execute(
        "SELECT topic, body, cancelled_at FROM delayed_messages WHERE id = ? "
        "UNION ALL SELECT topic, body, NULL FROM messages WHERE id = ?",
        (message.id, message.id),
    ).fetchone()
    if known is not None:
        return known[2] is not None or known[:2] == (topic, message.body)
    connection.execute(
        "INSERT INTO delayed_messages "
        "(id, topic, body, content_type, meta, accepted_at, due_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (message.id, topic, message.body, message.content_type, message.meta,
         message.received_at, due_at),
    )  # fmt: skip
    return True


def take_due(connection: Any, at: str) -> list[Addressed]:
    """Remove messages that are due at `at`, those due first, and return them as they are stored.

    Each is received at `at`: lists and retention go by when a message came into them. Its meta says
    when it was accepted. There are more where as many as are taken at once are returned.
    """
    connection.execute(
        "DELETE FROM delayed_messages WHERE cancelled_at IS NOT NULL AND due_at <= ?", (at,)
    )
    taken: list[Addressed] = []
    gone: list[tuple[int]] = []
    size = 0
    rows = connection.execute(
        "SELECT seq, id, topic, body, content_type, meta, accepted_at FROM delayed_messages "
        "WHERE due_at <= ? ORDER BY due_at, seq LIMIT ?",
        (at, MOST_AT_ONCE),
    )
    for seq, message_id, topic, body, content_type, meta, accepted_at in rows:
        size += len(as_bytes(body))
        if taken and size > _MOST_BYTES:
            break
        text = metas.extended(meta, {"accepted_at": accepted_at})
        taken.append((topic, Message(message_id, at, body, content_type, text)))
        gone.append((seq,))
    rows.close()
    connection.executemany("DELETE FROM delayed_messages WHERE seq = ?", gone)
    return taken


def cancel(connection: Any, message_id: str) -> Sequence[str] | None:
    """Forget the body of a message that waits; return its topic and due time (None: none waits).

    Its id is remembered for a day: its envelope can come once more.
    """
    row: Sequence[str] | None = connection.execute(
        "SELECT topic, due_at FROM delayed_messages WHERE id = ? AND cancelled_at IS NULL",
        (message_id,),
    ).fetchone()
    if row is not None:
        now = timestamps.now()
        until = datetime.fromisoformat(now) + _REMEMBERED
        connection.execute(
            "UPDATE delayed_messages SET cancelled_at = ?, due_at = ?, body = '', meta = NULL "
            "WHERE id = ?",
            (now, timestamps.timestamp(until.timestamp()), message_id),
        )
    return row
