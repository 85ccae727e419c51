"""Removes canaries: the appliance's own messages, sent to see that messages become rows."""

import json
from pathlib import Path
from typing import Final

from appliance.model.topics import CANARY_BEGIN, CANARY_TOPIC
from appliance.store.sqlite.short_write import writing

#: Canaries that are removed at once; there is one, as a rule.
_MOST: Final = 100

_FIND: Final = """
    SELECT seq, id FROM messages INDEXED BY messages_topic
    WHERE topic = ? AND substr(body, 1, ?) = ? ORDER BY seq DESC LIMIT ?
"""
_DELETE: Final = "DELETE FROM messages WHERE seq IN (SELECT value FROM json_each(?))"
_FORGET: Final = """
    DELETE FROM topics WHERE topic = ?
    AND NOT EXISTS (SELECT 1 FROM messages WHERE messages.topic = topics.topic)
"""


def take_canaries(path: Path) -> list[str]:
    """Remove the canaries, and their topic where nothing else is in it; return their ids.

    What anyone else sent to the topic stays. Raises StoreError.
    """
    with writing(path, synced=False) as connection:
        values = (CANARY_TOPIC, len(CANARY_BEGIN), CANARY_BEGIN, _MOST)
        rows = connection.execute(_FIND, values).fetchall()
        if rows:
            connection.execute(_DELETE, (json.dumps([seq for seq, _ in rows]),))
            connection.execute(_FORGET, (CANARY_TOPIC,))
    return [row[1] for row in rows]
