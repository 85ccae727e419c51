"""Reads behind a place in the order of storing: messages, or their counts and begins.

`seq` is the order of the commits. There is one writer at a time, and a number is never given again,
not even where the newest rows were deleted: a transaction's numbers are greater than all that were
ever committed before it. So a reader who has seen a commit has seen every `seq` below those of the
next one. In SQLite, AUTOINCREMENT sees to it; in PostgreSQL the row of `shards`, which a writer
holds from the taking of its numbers to its commit.
"""

from typing import Any, Final

from appliance.model.topics import CANARY_TOPIC
from appliance.store.paging import take
from appliance.store.rows import Followed, Glance, Preview, StoredMessage, Stretch
from appliance.store.sql import expiry
from appliance.store.sql.database import SqlConnection, SqlDatabase, SqlWords
from appliance.store.sql.marks import DISORDER, last_before
from appliance.store.sql.patterns import pattern_text

#: Messages and bytes of bodies in one part.
_PART_ROWS: Final = 500
_PART_BYTES: Final = 128 * 2**10
#: Numbers that one read looks through where no index leads to the rows, and for counting them.
_SEARCHED: Final = 20_000
_COUNTED: Final = 50_000
#: Numbers of which the topics are looked up.
_LISTED: Final = 5_000
#: Bytes of bodies that are read for the begins of the newest messages.
_GLANCE_BYTES: Final = 4 * 2**20

_NEXT: Final = "SELECT min(seq) FROM messages WHERE seq > ?"
_TOPICS: Final = "SELECT DISTINCT topic FROM messages WHERE seq > ? AND seq <= ?"


class StoredFollower:
    """Reads a database on the connection of the thread that asks."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database
        self._words = database.words

    def end(self) -> int:
        """Return the greatest `seq` that a message ever had; 0 where there was none."""
        with self._database.reading() as connection:
            return end_of(connection, self._words)

    def begin(self, since: str) -> int:
        """Return a place before every message that was received at `since` or later."""
        with self._database.reading() as connection:
            return last_before(connection, since, -DISORDER)

    def topics(self, after: int, upto: int) -> frozenset[str] | None:
        """Return the topics of the messages behind `after`, up to `upto`; None: too many rows."""
        if upto - after > _LISTED:
            return None
        with self._database.reading() as connection:
            return frozenset(row[0] for row in connection.execute(_TOPICS, (after, upto)))

    def part(self, followed: Followed, after: int, upto: int) -> Stretch:
        """Return the first messages behind `after`, up to `upto`, oldest first."""
        with self._database.reading() as connection:
            return stretch(connection, self._words, followed, after, upto, _PART_ROWS, _PART_BYTES)

    def glance(self, followed: Followed, after: int, upto: int, most: int) -> Glance:
        """Return how many messages lie behind `after`, up to `upto`, and the `most` newest."""
        newest: list[Preview] = []
        with self._database.reading() as connection:
            after, upto = _bounded(connection, after, upto, _COUNTED)
            source, where, values = _conditions(connection, self._words, followed, after, upto)
            test = " AND ".join(where)
            query = f"SELECT topic, count(*) FROM {source} WHERE {test} GROUP BY topic"  # noqa: S608
            counts = dict(connection.execute(query, values).fetchall())
            if counts:
                query = (
                    f"SELECT seq, id, topic, received_at, {self._words.preview} "  # noqa: S608
                    f"FROM {source} "
                    f"WHERE {test} ORDER BY seq DESC LIMIT :most"
                )
                cursor = connection.execute(query, {**values, "most": most})
                newest = _first_bytes(cursor, _GLANCE_BYTES)
        return Glance(counts, newest, upto)


def end_of(connection: SqlConnection, words: SqlWords) -> int:
    """Return the greatest `seq` that a message ever had; 0 where there was none."""
    return int(connection.execute(f"SELECT {words.last_seq}").fetchone()[0])


def stretch(
    connection: SqlConnection,
    words: SqlWords,
    followed: Followed,
    after: int,
    upto: int,
    most: int,
    max_bytes: int,
) -> Stretch:
    """Return the first messages behind `after`, up to `upto`; one at least, if any is near.

    Where no index leads to them, only some of the span is looked through.
    """
    if followed.topic is None:
        after, upto = _bounded(connection, after, upto, _SEARCHED)
    source, where, values = _conditions(connection, words, followed, after, upto)
    values |= {"limit": most + 1, "max_bytes": max_bytes}
    cursor = connection.execute(words.page_of(source, where, "ASC"), values)
    page = take(cursor, StoredMessage._make, most, max_bytes)
    return Stretch(page.rows, page.rows[-1].seq if page.more else upto)


def _bounded(connection: SqlConnection, after: int, upto: int, most: int) -> tuple[int, int]:
    """Return the same span without the gap that it begins with, and no longer than `most`."""
    if upto - after > most:
        first = connection.execute(_NEXT, (after,)).fetchone()[0]
        after = upto if first is None else max(after, first - 1)
    return after, min(upto, after + most)


def _conditions(
    connection: SqlConnection, words: SqlWords, followed: Followed, after: int, upto: int
) -> tuple[str, list[str], dict[str, Any]]:
    """Return the table, the conditions and their values for what is followed."""
    values: dict[str, Any] = {"after": after, "upto": upto}
    where = ["seq > :after", "seq <= :upto", *expiry.hides(connection, words)]
    source = words.by_seq
    if followed.topic is None:
        where.append("topic <> :canary")  # who wants those asks for their topic
        values["canary"] = CANARY_TOPIC
    else:
        source = words.by_topic
        where.append("topic = :topic")
        values["topic"] = followed.topic
    for place, patterns in enumerate(followed.patterns):
        where.append(words.matches.replace(":patterns", f":patterns{place}"))
        values[f"patterns{place}"] = pattern_text(patterns)
    if followed.since is not None:
        where.append("received_at >= :since")
        values["since"] = followed.since
    return source, where, values


def _first_bytes(cursor: Any, most: int) -> list[Preview]:
    """Return the first rows whose bodies have up to `most` bytes together; one at least."""
    rows: list[Preview] = []
    size = 0
    try:
        for values in cursor:
            row = Preview._make(values)
            size += row.size
            if rows and size > most:
                break
            rows.append(row)
    finally:
        cursor.close()
    return rows
