"""Reads stored messages: topics, pages, exports, single messages and sums, in any engine's SQL."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

from appliance.errors import SearchBusyError, SlowReadError
from appliance.store.filters import Found, MessageFilter
from appliance.store.paging import found_pieces, pieces, take
from appliance.store.rows import (
    PAGE_BYTES,
    Page,
    Span,
    StoredMessage,
    Topic,
    TopicChoice,
    Totals,
    Window,
)
from appliance.store.search_places import MOST, MOST_OF_ONE, SearchPlaces
from appliance.store.sql import expiry, topic_list
from appliance.store.sql.database import SqlConnection, SqlWords
from appliance.store.sql.marks import DISORDER, last_before
from appliance.store.sql.patterns import pattern_text
from appliance.store.sql.search_range import SearchRange

_LETTERS: Final = "SELECT count(*) FROM dead_letters"


class StoredReader(ABC):
    """Reads a database of one engine, with a connection for each thread."""

    def __init__(self, words: SqlWords) -> None:
        self._words = words
        self._places = SearchPlaces()
        # A topic is compared with the patterns once for all of its letters, and the index says how
        # many.
        self._visible_letters = (
            "WITH counts AS MATERIALIZED ("  # noqa: S608  # ours
            "SELECT topic, count(*) AS letters FROM dead_letters GROUP BY topic) "
            f"SELECT coalesce(sum(letters), 0) FROM counts WHERE {words.matches}"
        )

    @abstractmethod
    def reading(self) -> AbstractContextManager[Any]:
        """Lend this thread's connection to a short read, whose errors become StoreError."""

    @abstractmethod
    def _search(
        self,
        connection: Any,
        wanted: MessageFilter,
        bounds: SearchRange,
        newest: int,
        limit: int,
        max_bytes: int,
        *,
        is_quick: bool,
    ) -> Found:
        """Return a page of the rows within `bounds` that a filter wants. Raises SlowReadError."""

    @abstractmethod
    def _database_bytes(self, connection: Any) -> int:
        """Return the size of the database on its disk."""

    @abstractmethod
    def details(self) -> Mapping[str, int | str]:
        """Return the numbers that only this engine has, by name."""

    def topics(
        self, *, after: str = "", limit: int = 100, patterns: Sequence[str] | None = None
    ) -> list[Topic]:
        """Return up to `limit` topics by name, from the first one after `after`."""
        with self.reading() as connection:
            rows = connection.execute(
                "SELECT topic, messages, bytes, first_at, last_at FROM topics "  # noqa: S608  # ours
                f"WHERE topic > :after AND {self._words.matches} ORDER BY topic LIMIT :limit",
                {"after": after, "limit": limit, "patterns": pattern_text(patterns)},
            ).fetchall()
        return [Topic._make(row) for row in rows]

    def topic_list(self, choice: TopicChoice, limit: int) -> list[Topic]:
        """Return up to `limit` topics of the choice, in its order."""
        with self.reading() as connection:
            return topic_list.topic_list(connection, self._words, choice, limit)

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
        where = ["topic = :topic"]
        values = {"topic": window.topic, "limit": limit + 1, "max_bytes": max_bytes}
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
            where += expiry.hides(connection, self._words)
            order = "DESC" if window.after is None else "ASC"
            query = self._words.page_of(self._words.by_topic, where, order)
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
            bounds = SearchRange(low, high, descending=span.after is None)
            try:
                return self._search(
                    connection, wanted, bounds, newest, limit, max_bytes, is_quick=not has_place
                )
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
            where = " AND ".join(["id = ?", *expiry.hides(connection, self._words)])
            query = f"SELECT {self._words.message} FROM messages WHERE {where}"  # noqa: S608  # ours
            row = connection.execute(query, (message_id,)).fetchone()
        return None if row is None else StoredMessage._make(row)

    def totals(self, patterns: Sequence[str] | None = None) -> Totals:
        """Return the size of the store, from the table of topics; no large table is counted."""
        values = {"patterns": pattern_text(patterns)}
        where = "" if patterns is None else f" WHERE {self._words.matches}"
        with self.reading() as connection:
            columns = "coalesce(sum(messages), 0), coalesce(sum(bytes), 0), count(*), max(last_at)"
            query = f"SELECT {columns} FROM topics{where}"  # noqa: S608  # ours
            topics = connection.execute(query, values).fetchone()
            query = _LETTERS if patterns is None else self._visible_letters
            dead = connection.execute(query, values).fetchone()[0]
            size = self._database_bytes(connection)
        return Totals(
            messages=topics[0],
            bytes=topics[1],
            topics=topics[2],
            dead_letters=dead,
            last_at=topics[3],
            database_bytes=size,
        )


def _last_seq(connection: SqlConnection) -> int:
    return int(connection.execute("SELECT max(seq) FROM messages").fetchone()[0] or 0)
