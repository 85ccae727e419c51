"""Removes canaries: the appliance's own messages, sent to see that messages become rows."""

import json
from typing import Final

from appliance.model.topics import CANARY_BEGIN, CANARY_TOPIC
from appliance.store.sql.database import SqlDatabase

#: Canaries that are removed at once; there is one, as a rule.
_MOST: Final = 100

_FIND: Final = """
    SELECT seq, id FROM {messages}
    WHERE topic = ? AND substr(body, 1, ?) = ? ORDER BY seq DESC LIMIT ?
"""
_DELETE: Final = "DELETE FROM messages WHERE seq IN ({seqs})"
#: The topic's row is locked by then: the deletion has changed its counters.
_FORGET: Final = """
    DELETE FROM topics WHERE topic = ?
    AND NOT EXISTS (SELECT 1 FROM messages WHERE messages.topic = topics.topic)
"""


def take_canaries(database: SqlDatabase) -> list[str]:
    """Remove the canaries, and their topic where nothing else is in it; return their ids.

    What anyone else sent to the topic stays. Raises StoreError.
    """
    words = database.words
    with database.writing(synced=False) as connection:
        values = (CANARY_TOPIC, len(CANARY_BEGIN), CANARY_BEGIN, _MOST)
        rows = connection.execute(_FIND.format(messages=words.by_topic), values).fetchall()
        if rows:
            delete = _DELETE.format(seqs=words.numbers_of("?"))
            connection.execute(delete, (json.dumps([seq for seq, _ in rows]),))
            connection.execute(_FORGET, (CANARY_TOPIC,))
    return [row[1] for row in rows]
