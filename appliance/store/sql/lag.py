"""The lag of who follows some topics: how many of their messages lie behind its place.

They are counted in the index by topic. Called within a read.
"""

from collections.abc import Sequence

from appliance.store.sql import expiry
from appliance.store.sql.database import SqlConnection, SqlWords
from appliance.store.sql.patterns import pattern_text


def lag(
    connection: SqlConnection, words: SqlWords, patterns: Sequence[str], place: int, most: int
) -> tuple[int, int | None]:
    """Return how many messages lie behind a place, and the first; more than `most` are one more.

    Where so many are found, the first of other topics may be an older one.
    """
    count, first = 0, None
    where = " AND ".join(["topic = ?", "seq > ?", *expiry.hides(connection, words)])
    # A key is part of each index, so the first of a topic is found without a look at others.
    query = (
        f"SELECT count(*), min(seq) FROM (SELECT seq FROM {words.by_topic} WHERE {where} "  # noqa: S608  # ours
        "ORDER BY seq LIMIT ?) AS lagging"
    )
    topics = f"SELECT topic FROM topics WHERE {words.matches} ORDER BY topic"  # noqa: S608  # ours
    values = {"patterns": pattern_text(patterns)}
    for (topic,) in connection.execute(topics, values).fetchall():
        found, seq = connection.execute(query, (topic, place, most + 1 - count)).fetchone()
        if found:
            count += found
            first = seq if first is None else min(first, seq)
        if count > most:
            break
    return count, first
