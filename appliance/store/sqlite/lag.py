"""The lag of who follows some topics: how many of their messages lie behind its place.

They are counted in the index by topic. Called within a read.
"""

from collections.abc import Sequence
from typing import Any, Final

from appliance.store.sqlite import expiry
from appliance.store.sqlite.reader import MATCHES, pattern_text

_TOPICS: Final = f"SELECT topic FROM topics WHERE {MATCHES} ORDER BY topic"  # noqa: S608  # ours
#: A primary key is part of each index, so the first of a topic is found without a look at others.
_OF_TOPIC: Final = """
    SELECT count(*), min(seq) FROM (
        SELECT seq FROM messages INDEXED BY messages_topic WHERE {} ORDER BY seq LIMIT ?
    )
"""


def lag(connection: Any, patterns: Sequence[str], place: int, most: int) -> tuple[int, int | None]:
    """Return how many messages lie behind a place, and the first; more than `most` are one more.

    Where so many are found, the first of other topics may be an older one.
    """
    count, first = 0, None
    query = _OF_TOPIC.format(" AND ".join(["topic = ?", "seq > ?", *expiry.hides(connection)]))
    topics = connection.execute(_TOPICS, {"patterns": pattern_text(patterns)}).fetchall()
    for (topic,) in topics:
        found, seq = connection.execute(query, (topic, place, most + 1 - count)).fetchone()
        if found:
            count += found
            first = seq if first is None else min(first, seq)
        if count > most:
            break
    return count, first
