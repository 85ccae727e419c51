"""Reads from the database: topics, pages of messages, exports, sizes.

Every read is short. A read that stays open keeps the write-ahead log from being emptied, so even an
export of everything is a series of small reads, each going on where the last one ended.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from appliance.errors import SearchBusyError, SlowReadError
from appliance.store.filters import Found, MessageFilter
from appliance.store.paging import found_pieces, pieces, take
from appliance.store.rows import (
    PAGE_BYTES,
    Engine,
    Page,
    Span,
    StoredMessage,
    Topic,
    TopicChoice,
    Totals,
    Window,
)
from appliance.store.search_places import MOST, MOST_OF_ONE, SearchPlaces
from appliance.store.sqlite import expiry, finder, migrations, paths, topic_list
from appliance.store.sqlite.connections import ThreadConnections
from appliance.store.sqlite.database import sqlite3, store_error
from appliance.store.sqlite.marks import DISORDER, last_before
from appliance.store.sqlite.search_index import SearchIndex
from appliance.store.sqlite.tables import check_tables

#: A condition: the topic matches one of the patterns, or there are none. A pattern has no character
#: but `*` that means something to GLOB.
MATCHES: Final = (
    "(:patterns IS NULL OR EXISTS "
    "(SELECT 1 FROM json_each(:patterns) AS pattern WHERE topic GLOB pattern.value))"
)
_LETTERS: Final = "SELECT count(*) FROM dead_letters"
#: A topic is compared with the patterns once for all of its letters, and the index says how many.
_VISIBLE_LETTERS: Final = f"""
    WITH counts AS MATERIALIZED (
        SELECT topic, count(*) AS letters FROM dead_letters GROUP BY topic
    )
    SELECT coalesce(sum(letters), 0) FROM counts WHERE {MATCHES}
"""  # noqa: S608  # ours


class SqliteReader:
    """Reads the database at `path`, with a connection for each thread.

    A connection that failed is closed, and the next call opens a new one.
    """

    engine: Final = Engine("sqlite", sqlite3.sqlite_version)

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connections = ThreadConnections(path)
        self._index = SearchIndex(path)
        self._places = SearchPlaces()

    def close(self) -> None:
        """Close every thread's connection; no thread may be reading."""
        self._connections.close()
        self._index.close()

    def check(self) -> None:
        """Read one row, and see whether the tables are as storing needs them.

        Raises SchemaError unless the database has this program's schema, TablesError where its
        tables were changed so that nothing can be stored.
        """
        with self.reading() as connection:
            migrations.check(connection, self._path)
            check_tables(connection)
            connection.execute("SELECT seq FROM messages ORDER BY seq DESC LIMIT 1").fetchone()

    def topics(
        self, *, after: str = "", limit: int = 100, patterns: Sequence[str] | None = None
    ) -> list[Topic]:
        """Return up to `limit` topics by name, from the first one after `after`."""
        with self.reading() as connection:
            rows = connection.execute(
                "SELECT topic, messages, bytes, first_at, last_at FROM topics "  # noqa: S608  # ours
                f"WHERE topic > :after AND {MATCHES} ORDER BY topic LIMIT :limit",
                {"after": after, "limit": limit, "patterns": pattern_text(patterns)},
            ).fetchall()
        return [Topic._make(row) for row in rows]

    def topic_list(self, choice: TopicChoice, limit: int) -> list[Topic]:
        """Return up to `limit` topics of the choice, in its order."""
        with self.reading() as connection:
            return topic_list.topic_list(connection, choice, limit)

    def has_topic(self, topic: str) -> bool:
        """Whether a message of the topic was ever stored; it may be deleted since."""
        with self.reading() as connection:
            query = "SELECT 1 FROM topics WHERE topic = ?"
            return connection.execute(query, (topic,)).fetchone() is not None

    def page(self, window: Window, limit: int, max_bytes: int = PAGE_BYTES) -> Page[StoredMessage]:
        """Return up to `limit` messages with up to `max_bytes` of bodies; at least one if any.

        Times have no index of their own: an index would slow down every insertion, and times nearly
        follow `seq`. So a binary search finds the first `seq` that can matter, for a time ten
        minutes before `since`, and the last one, ten minutes after `until`; the rows between them
        are filtered exactly. A message is missed only where the order of times differs from the
        order of storing by more than ten minutes, after a clock was set back.
        """
        where, values = ["topic = :topic"], {"topic": window.topic, "limit": limit + 1}
        with self.reading() as connection:
            if window.since is not None:
                floor = last_before(connection, window.since, -DISORDER)
                where += ["seq > :floor", "received_at >= :since"]
                values |= {"floor": floor, "since": window.since}
            if window.until is not None:
                ceiling = last_before(connection, window.until, DISORDER)
                where += ["seq <= :ceiling", "received_at < :until"]
                values |= {"ceiling": ceiling, "until": window.until}
            if window.before is not None:
                where.append("seq < :before")
                values["before"] = window.before
            if window.after is not None:
                where.append("seq > :after")
                values["after"] = window.after
            where += expiry.hides(connection)
            order = "DESC" if window.after is None else "ASC"
            query = (
                f"SELECT {finder.COLUMNS} FROM messages INDEXED BY messages_topic "  # noqa: S608  # ours
                f"WHERE {' AND '.join(where)} ORDER BY seq {order} LIMIT :limit"
            )
            return take(connection.execute(query, values), StoredMessage._make, limit, max_bytes)

    def pieces(self, window: Window, limit: int | None = None) -> Iterator[list[StoredMessage]]:
        """Yield up to `limit` messages (None: all that are stored now) in lists of some 256 KiB."""
        return pieces(self.page, window, self.last_seq(), limit)

    def find(
        self,
        wanted: MessageFilter,
        span: Span,
        limit: int,
        max_bytes: int = PAGE_BYTES,
        *,
        asker: str = "",
    ) -> Found:
        """Return up to `limit` messages that the filter wants, in a search that is short.

        Raises SlowReadError where it came to nothing in its time, SearchBusyError where it needs
        more time than there is beside the searches of others.
        """
        if wanted.takes_all:  # as lists do that nobody has filtered
            return self._find(wanted, span, limit, max_bytes, has_place=True)
        with self._places.place(asker) as has_place:
            found = self._find(wanted, span, limit, max_bytes, has_place=has_place)
        if not (has_place or found.rows or found.is_complete):
            raise SearchBusyError(
                f"{MOST_OF_ONE} searches of one token, and {MOST} in all, can take long at once, "
                "and this one takes long; wait until another has ended, or ask for one topic, for "
                "less time (since, until), or for fewer conditions"
            )
        return found

    def _find(
        self, wanted: MessageFilter, span: Span, limit: int, max_bytes: int, *, has_place: bool
    ) -> Found:
        """Search; without a place, one that takes long ends early, at worst where it began."""
        with self.reading() as connection:
            newest = _last_seq(connection)
            low = -(2**63) if span.after is None else span.after
            high = newest + 1 if span.before is None else min(span.before, newest + 1)
            if wanted.since is not None:
                low = max(low, last_before(connection, wanted.since, -DISORDER))
            if wanted.until is not None:
                high = min(high, last_before(connection, wanted.until, DISORDER) + 1)
            bounds = finder.Range(low, high, descending=span.after is None)
            try:
                return finder.find(
                    connection, self._index, wanted, bounds, newest, limit, max_bytes,
                    is_quick=not has_place,
                )  # fmt: skip
            except SlowReadError:
                if has_place:
                    raise
                start = bounds.high if bounds.descending else bounds.low
                return Found([], True, start, newest, is_complete=False)

    def find_pieces(
        self, wanted: MessageFilter, span: Span, limit: int | None = None, *, asker: str = ""
    ) -> Iterator[list[StoredMessage]]:
        """Yield up to `limit` messages (None: all that are stored now) that the filter wants."""

        def find(span: Span, count: int, max_bytes: int) -> Found:
            with self._places.place(asker) as has_place:
                return self._find(wanted, span, count, max_bytes, has_place=has_place)

        return found_pieces(find, span, limit)

    def last_seq(self) -> int:
        """Return the `seq` of the message stored last; 0 where there is none."""
        with self.reading() as connection:
            return _last_seq(connection)

    def message(self, message_id: str) -> StoredMessage | None:
        """Return the stored message with this id, or None."""
        with self.reading() as connection:
            where = " AND ".join(["id = ?", *expiry.hides(connection)])
            query = f"SELECT {finder.COLUMNS} FROM messages WHERE {where}"  # noqa: S608  # ours
            row = connection.execute(query, (message_id,)).fetchone()
        return None if row is None else StoredMessage._make(row)

    def totals(self, patterns: Sequence[str] | None = None) -> Totals:
        """Return the size of the store, from the table of topics; no large table is counted."""
        values = {"patterns": pattern_text(patterns)}
        where = "" if patterns is None else f" WHERE {MATCHES}"
        with self.reading() as connection:
            columns = "coalesce(sum(messages), 0), coalesce(sum(bytes), 0), count(*), max(last_at)"
            query = f"SELECT {columns} FROM topics{where}"  # noqa: S608  # ours
            topics = connection.execute(query, values).fetchone()
            query = _LETTERS if patterns is None else _VISIBLE_LETTERS
            dead = connection.execute(query, values).fetchone()[0]
        return Totals(
            messages=topics[0],
            bytes=topics[1],
            topics=topics[2],
            dead_letters=dead,
            last_at=topics[3],
            database_bytes=paths.size(self._path),
        )

    def details(self) -> Mapping[str, int | str]:
        """Return the bytes of the write-ahead log, and the file's pages.

        `free_pages` are inside the file and used again.
        """
        with self.reading() as connection:
            page_size, pages, free_pages = (
                connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("page_size", "page_count", "freelist_count")
            )
        return {
            "wal_bytes": paths.size(paths.wal(self._path)),
            "page_size": page_size,
            "pages": pages,
            "free_pages": free_pages,
        }

    @contextmanager
    def reading(self) -> Iterator[Any]:
        """Lend this thread's connection to a short read, whose errors become StoreError."""
        connection = self._connections.get()
        try:
            yield connection
        except sqlite3.Error as error:
            self._connections.drop(connection)
            raise store_error(error, self._path) from error


def _last_seq(connection: Any) -> int:
    return int(connection.execute("SELECT max(seq) FROM messages").fetchone()[0] or 0)


def pattern_text(patterns: Sequence[str] | None) -> str | None:
    """Return the patterns as the condition MATCHES takes them."""
    return None if patterns is None else json.dumps(list(patterns))
