"""Reads behind a place in the order of storing: messages, or their counts and begins.

`seq` is the order of the commits. SQLite has one writer at a time, and AUTOINCREMENT never gives a
number again, not even where the newest rows were deleted: a transaction's numbers are greater than
all that were ever committed before it. So a reader who has seen a commit has seen every `seq` below
those of the next one.
"""

from typing import Any, Final

from appliance.model.topics import CANARY_TOPIC
from appliance.store.paging import take
from appliance.store.rows import Followed, Glance, Preview, StoredMessage, Stretch
from appliance.store.sqlite import expiry
from appliance.store.sqlite.finder import COLUMNS
from appliance.store.sqlite.marks import DISORDER, last_before
from appliance.store.sqlite.reader import MATCHES, SqliteReader, pattern_text

#: Messages and bytes of bodies in one part.
_PART_ROWS: Final = 500
_PART_BYTES: Final = 128 * 2**10
#: Numbers that one read looks through where no index leads to the rows, and for counting them.
_SEARCHED: Final = 20_000
_COUNTED: Final = 50_000
#: Numbers of which the topics are looked up.
_LISTED: Final = 5_000
#: Bytes of bodies that are read for the begins of the newest messages, and characters of a begin.
_GLANCE_BYTES: Final = 4 * 2**20
_START: Final = 200
#: Bytes of a body that is looked through to see whether it is JSON; of a longer one its first
#: character counts.
_JSON_BYTES: Final = 64 * 2**10

_END: Final = "SELECT seq FROM sqlite_sequence WHERE name = 'messages'"
_NEXT: Final = "SELECT min(seq) FROM messages WHERE seq > ?"
_TOPICS: Final = "SELECT DISTINCT topic FROM messages WHERE seq > ? AND seq <= ?"
#: The begin of a text is cut by characters, and that of anything else by bytes.
_PREVIEW: Final = f"""
    seq, id, topic, received_at,
    CASE
        WHEN typeof(body) <> 'text' THEN 'binary'
        WHEN length(CAST(body AS BLOB)) > {_JSON_BYTES} THEN
            iif(substr(body, 1, 1) IN ('{{', '['), 'json', 'text')
        WHEN json_valid(body) THEN 'json'
        ELSE 'text'
    END,
    length(CAST(body AS BLOB)), CAST(substr(body, 1, {_START}) AS BLOB)
"""


class SqliteFollower:
    """Reads through `reader`, on the connection of the thread that asks."""

    def __init__(self, reader: SqliteReader) -> None:
        self._reader = reader

    def end(self) -> int:
        """Return the greatest `seq` that a message ever had; 0 where there was none."""
        with self._reader.reading() as connection:
            return end_of(connection)

    def begin(self, since: str) -> int:
        """Return a place before every message that was received at `since` or later."""
        with self._reader.reading() as connection:
            return last_before(connection, since, -DISORDER)

    def topics(self, after: int, upto: int) -> frozenset[str] | None:
        """Return the topics of the messages behind `after`, up to `upto`; None: too many rows."""
        if upto - after > _LISTED:
            return None
        with self._reader.reading() as connection:
            return frozenset(row[0] for row in connection.execute(_TOPICS, (after, upto)))

    def part(self, followed: Followed, after: int, upto: int) -> Stretch:
        """Return the first messages behind `after`, up to `upto`, oldest first."""
        with self._reader.reading() as connection:
            return stretch(connection, followed, after, upto, _PART_ROWS, _PART_BYTES)

    def glance(self, followed: Followed, after: int, upto: int, most: int) -> Glance:
        """Return how many messages lie behind `after`, up to `upto`, and the `most` newest."""
        newest: list[Preview] = []
        with self._reader.reading() as connection:
            after, upto = _bounded(connection, after, upto, _COUNTED)
            source, where, values = _conditions(connection, followed, after, upto)
            query = f"SELECT topic, count(*) FROM {source} WHERE {where} GROUP BY topic"  # noqa: S608
            counts = dict(connection.execute(query, values).fetchall())
            if counts:
                query = (
                    f"SELECT {_PREVIEW} FROM {source} "  # noqa: S608  # ours
                    f"WHERE {where} ORDER BY seq DESC LIMIT :most"
                )
                cursor = connection.execute(query, {**values, "most": most})
                newest = _first_bytes(cursor, _GLANCE_BYTES)
        return Glance(counts, newest, upto)


def end_of(connection: Any) -> int:
    """Return the greatest `seq` that a message ever had; 0 where there was none."""
    row = connection.execute(_END).fetchone()
    return int(row[0]) if row else 0


def stretch(
    connection: Any, followed: Followed, after: int, upto: int, most: int, max_bytes: int
) -> Stretch:
    """Return the first messages behind `after`, up to `upto`; one at least, if any is near.

    Where no index leads to them, only some of the span is looked through.
    """
    if followed.topic is None:
        after, upto = _bounded(connection, after, upto, _SEARCHED)
    source, where, values = _conditions(connection, followed, after, upto)
    query = (
        f"SELECT {COLUMNS} FROM {source} "  # noqa: S608  # ours
        f"WHERE {where} ORDER BY seq LIMIT :limit"
    )
    cursor = connection.execute(query, {**values, "limit": most + 1})
    page = take(cursor, StoredMessage._make, most, max_bytes)
    return Stretch(page.rows, page.rows[-1].seq if page.more else upto)


def _bounded(connection: Any, after: int, upto: int, most: int) -> tuple[int, int]:
    """Return the same span without the gap that it begins with, and no longer than `most`."""
    if upto - after > most:
        first = connection.execute(_NEXT, (after,)).fetchone()[0]
        after = upto if first is None else max(after, first - 1)
    return after, min(upto, after + most)


def _conditions(
    connection: Any, followed: Followed, after: int, upto: int
) -> tuple[str, str, dict[str, Any]]:
    """Return the table, the condition and its values for what is followed."""
    values: dict[str, Any] = {"after": after, "upto": upto}
    where = ["seq > :after", "seq <= :upto", *expiry.hides(connection)]
    source = "messages NOT INDEXED"
    if followed.topic is None:
        where.append("topic <> :canary")  # who wants those asks for their topic
        values["canary"] = CANARY_TOPIC
    else:
        source = "messages INDEXED BY messages_topic"
        where.append("topic = :topic")
        values["topic"] = followed.topic
    for place, patterns in enumerate(followed.patterns):
        where.append(MATCHES.replace(":patterns", f":patterns{place}"))
        values[f"patterns{place}"] = pattern_text(patterns)
    if followed.since is not None:
        where.append("received_at >= :since")
        values["since"] = followed.since
    return source, " AND ".join(where), values


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
