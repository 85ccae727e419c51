"""Messages with an end: which are over, and how every read leaves those out.

`expirations` has a row for each message with `expires_at` in its meta, and no other message costs
anything. A message is over from its time on, whether or not it is deleted already: every reader
leaves it out by the condition that `hides` returns, and there is none while no message is over.
"""

from typing import Any, Final

from appliance.model import meta as metas

_NOW: Final = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
_IS_ANY_OVER: Final = f"SELECT 1 FROM expirations WHERE expires_at <= {_NOW} LIMIT 1"  # noqa: S608
#: A condition on a row of `messages`.
_IS_NOT_OVER: Final = (
    "NOT EXISTS (SELECT 1 FROM expirations AS over "  # noqa: S608  # ours
    f"WHERE over.seq = messages.seq AND over.expires_at <= {_NOW})"
)
#: Takes the times of messages from their meta, of those behind a place.
ADD: Final = f"""
    INSERT OR IGNORE INTO expirations (seq, expires_at)
    SELECT seq, meta ->> '$.{metas.EXPIRES_AT}' FROM messages
    WHERE seq > ? AND instr(meta, '"{metas.EXPIRES_AT}":') AND json_valid(meta)
    AND json_type(meta, '$.{metas.EXPIRES_AT}') = 'text'
"""  # noqa: S608  # ours


def hides(connection: Any) -> list[str]:
    """Return the conditions by which a read leaves out messages that are over; none, as a rule.

    They are for a query whose rows are those of `messages`, under that name.
    """
    return [_IS_NOT_OVER] if connection.execute(_IS_ANY_OVER).fetchone() else []
