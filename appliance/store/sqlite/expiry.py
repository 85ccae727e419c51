"""Messages with an end, in SQLite: their times are taken from their meta as they are stored."""

from typing import Any, Final

from appliance.model import meta as metas
from appliance.store.sql import expiry
from appliance.store.sqlite.sql_words import WORDS

#: Takes the times of messages from their meta, of those behind a place.
ADD: Final = f"""
    INSERT OR IGNORE INTO expirations (seq, expires_at)
    SELECT seq, meta ->> '$.{metas.EXPIRES_AT}' FROM messages
    WHERE seq > ? AND instr(meta, '"{metas.EXPIRES_AT}":') AND json_valid(meta)
    AND json_type(meta, '$.{metas.EXPIRES_AT}') = 'text'
"""  # noqa: S608  # ours


def hides(connection: Any) -> list[str]:
    """Return the conditions by which a read leaves out messages that are over; none, as a rule."""
    return expiry.hides(connection, WORDS)
