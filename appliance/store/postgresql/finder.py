"""Finds messages by a filter, part by part, until a page is full.

A statement that goes through all messages can't say how far it came when its time is over. So a
search looks at some candidates at a time, more of them while that is quick, and always knows how
far it is. Words are looked up in the table that the janitor fills, and looked for in the rows
themselves, by the code that SQLite's searches use: both engines find the same.
"""

# ruff: noqa: S608  # the SQL is put together from texts of this package, and values are bound

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import psycopg

from appliance.errors import SlowReadError
from appliance.model.search_words import SearchWords, searchable
from appliance.store.filters import Found, MessageFilter
from appliance.store.postgresql import json_indexes, search_table
from appliance.store.postgresql.connections import PostgresConnection
from appliance.store.postgresql.reads import READ_TIMEOUT_MS
from appliance.store.postgresql.search_table import WordLookup
from appliance.store.postgresql.sql_database import WORDS
from appliance.store.rows import StoredMessage
from appliance.store.sql import expiry, search_range
from appliance.store.sql.patterns import pattern_text
from appliance.store.sql.search_range import SearchRange

#: Topics whose names a search compares with those of the rows. Where there are more, each row's is
#: compared with the patterns, which takes ten times as long.
_MOST_NAMED: Final = 2000
#: Candidates that are looked at with one statement, at most; and bytes of bodies in which words are
#: looked for before the next look at the clock.
_MOST: Final = 8192
_MOST_WITH_WORDS: Final = 512
_WORDS_BYTES: Final = 2 * 2**20
#: Seconds within which a statement is quick, and from which on it is slow.
_QUICK: Final = 0.05
_SLOW: Final = 0.25
#: Share of a search's time that one look-up in the index of words may take.
_LOOK_UP_SHARE: Final = 0.4

_SIZE: Final = WORDS.body_bytes


class _Place(NamedTuple):
    """Where candidates are: conditions on `messages`, or one part of it for each of some topics."""

    conditions: list[str]
    topics: list[str] | None = None


def find(
    connection: PostgresConnection,
    wanted: MessageFilter,
    bounds: SearchRange,
    newest: int,
    limit: int,
    max_bytes: int,
    *,
    is_quick: bool = False,
) -> Found:
    """Return a page of the rows within `bounds` that a filter wants.

    `is_quick` says that it must not take long. `newest` is the last row that is stored. Raises
    SlowReadError where not even one row could be looked at in time.
    """
    seconds, patience = search_range.FIND_SECONDS, search_range.PATIENCE
    if is_quick:
        seconds, patience = search_range.QUICK_SECONDS, search_range.QUICK_PATIENCE
    clock = _Clock(connection, time.monotonic() + seconds, patience)
    with clock.bounding():
        search = _Search(connection, clock, wanted, bounds, newest, limit, max_bytes)
        return search.run()


class _Clock:
    """Ends statements when a search's time is over."""

    def __init__(self, connection: PostgresConnection, deadline: float, patience: float) -> None:
        self._connection = connection
        self._end = deadline + patience
        self.deadline = deadline

    @property
    def is_over(self) -> bool:
        return time.monotonic() > self.deadline

    def bound(self, share: float = 1.0) -> None:
        """Let the next statement take the rest of the time, or a share of it."""
        rest = max(0.001, (self._end - time.monotonic()) * share)
        self._connection.execute(f"SET statement_timeout = {max(1, int(rest * 1000))}")

    @contextmanager
    def bounding(self) -> Iterator[None]:
        try:
            yield
        except psycopg.errors.QueryCanceled as error:
            raise SlowReadError(
                "the search found nothing in its time; ask for one topic, for less time (since, "
                "until), or for fewer conditions"
            ) from error
        finally:
            if not self._connection.driver.closed:
                self._connection.execute(f"SET statement_timeout = {READ_TIMEOUT_MS}")


class _Search:
    def __init__(
        self,
        connection: PostgresConnection,
        clock: _Clock,
        wanted: MessageFilter,
        bounds: SearchRange,
        newest: int,
        limit: int,
        max_bytes: int,
    ) -> None:
        self._connection = connection
        self._clock = clock
        self._wanted = wanted
        self._bounds = bounds
        self._newest = newest
        self._limit = limit
        self._max_bytes = max_bytes
        self._rows: list[StoredMessage] = []
        self._size = 0
        self._reached = bounds.high if bounds.descending else bounds.low
        self._values: dict[str, Any] = {
            "topics": pattern_text(wanted.topics),
            "patterns": pattern_text(wanted.patterns),
        }
        self._conditions = WORDS.conditions(wanted, self._values)
        self._conditions += expiry.hides(connection, WORDS)
        for name, sign in (("since", ">="), ("until", "<")):
            if (moment := getattr(wanted, name)) is not None:
                self._conditions.append(f"received_at {sign} :{name}")
                self._values[name] = moment
        self._chunk = search_range.LOOK_EVERY
        self._is_full = False

    def run(self) -> Found:
        looked = False
        try:
            self._clock.bound()
            for _ in self._steps():
                looked = True
                if self._is_full:
                    return Found(self._rows, True, self._rows[-1].seq, self._newest)
                if self._clock.is_over:
                    break
                self._clock.bound()
            else:
                return Found(self._rows, False, self._reached, self._newest)
        except psycopg.errors.QueryCanceled:
            if not looked:
                raise
        return Found(self._rows, True, self._reached, self._newest, is_complete=False)

    def _steps(self) -> Iterator[None]:
        """Look at some candidates at a time, in order."""
        names = _topics(self._connection, self._wanted, self._values)
        place = self._place(names)
        if names is not None and len(names) > search_range.MOST_TOPICS:
            names = None
        lookup = search_table.lookup(self._connection, self._wanted.words, names)
        bounds = self._bounds
        if lookup is None:
            yield from self._scan(place, bounds)
            return
        # The newest rows are not in the index yet, and perhaps the oldest.
        parts = [
            (False, bounds._replace(low=max(bounds.low, lookup.high))),
            (True, bounds._replace(low=max(bounds.low, lookup.low - 1),
                                   high=min(bounds.high, lookup.high + 1))),
            (False, bounds._replace(high=min(bounds.high, lookup.low))),
        ]  # fmt: skip
        for is_indexed, part in parts if bounds.descending else reversed(parts):
            if part.high - part.low <= 1:
                continue
            if is_indexed:
                yield from self._look_up(lookup, part)
            else:
                yield from self._scan(place, part)

    def _place(self, names: list[str] | None) -> _Place:
        wanted = self._wanted
        if names is None:
            is_bounded = wanted.topics is not None or wanted.patterns is not None
            return _Place([WORDS.topic_is_wanted] if is_bounded else [])
        self._values["names"] = names
        if len(names) != 1:
            is_few = len(names) <= search_range.MOST_TOPICS
            return _Place(["topic = ANY(:names::text[])"], names if is_few else None)
        self._values["topic"] = names[0]
        values: dict[str, Any] = {}
        indexed = json_indexes.lookup(self._connection, names[0], wanted.where, values)
        self._values |= values
        return _Place(["topic = :topic", *indexed])

    def _scan(self, place: _Place, part: SearchRange) -> Iterator[None]:
        """Look at every row of a place."""
        while part.high - part.low > 1:
            began = time.monotonic()
            last = self._last_of_chunk(place, part)
            self._take(place.conditions, part if last is None else part.up_to(last))
            self._pace(began)
            yield
            if last is None:
                return
            part = _behind(part, self._reached)

    def _last_of_chunk(self, place: _Place, part: SearchRange) -> int | None:
        """Return the last candidate of the next ones; None: of all that are left."""
        order, within = part.order, f"seq > {part.low} AND seq < {part.high}"
        where = " AND ".join([*place.conditions, within])
        source = f"SELECT seq, {_SIZE} AS size FROM messages WHERE {where}"
        if place.topics is not None:
            source = (
                "SELECT each.seq, each.size FROM unnest(:names::text[]) AS name, LATERAL ("
                f"SELECT seq, {_SIZE} AS size FROM messages WHERE topic = name AND {within} "
                f"ORDER BY seq {order} LIMIT :chunk) AS each"
            )
        chunk, bytes_ = self._chunk, ""
        if self._wanted.words is not None:
            chunk = min(chunk, _MOST_WITH_WORDS)
            bytes_ = f"OR running > {_WORDS_BYTES}"
        row = self._connection.execute(
            f"SELECT seq FROM (SELECT seq, row_number() OVER (ORDER BY seq {order}) AS number, "
            f"sum(size) OVER (ORDER BY seq {order} ROWS UNBOUNDED PRECEDING) AS running "
            f"FROM ({source} ORDER BY seq {order} LIMIT :chunk) AS nearest) AS counted "
            f"WHERE number = :chunk {bytes_} ORDER BY seq {order} LIMIT 1",
            {**self._values, "chunk": chunk},
        ).fetchone()
        return None if row is None else int(row[0])

    def _take(self, place: list[str], part: SearchRange) -> None:
        """Take what is wanted of a part."""
        words = self._wanted.words
        most, most_bytes = self._limit - len(self._rows) + 1, self._max_bytes - self._size
        if words is not None:  # the part is short; which of its rows are wanted is seen here
            most, most_bytes = _MOST, _WORDS_BYTES
        within = [f"seq > {part.low}", f"seq < {part.high}"]
        query = WORDS.page_of(WORDS.by_seq, [*place, *self._conditions, *within], part.order)
        values = {**self._values, "limit": most, "max_bytes": max(1, most_bytes)}
        for each in self._connection.execute(query, values):
            row = StoredMessage._make(each)
            if words is not None and not _has(words, row):
                continue
            self._size += len(row.body)
            if len(self._rows) == self._limit or (self._rows and self._size > self._max_bytes):
                self._is_full = True
                return
            self._rows.append(row)
        self._reached = _end(part)

    def _look_up(self, lookup: WordLookup, part: SearchRange) -> Iterator[None]:
        """Look at the rows that have the words by the index, and those that were changed since."""
        is_slow = False
        while part.high - part.low > 1:
            began = time.monotonic()
            if not is_slow:
                try:
                    self._clock.bound(_LOOK_UP_SHARE)
                    found = lookup.first(self._connection, part, self._chunk)
                except psycopg.errors.QueryCanceled:
                    is_slow = True  # a word that many rows have: some rows at a time are quicker
                self._clock.bound()
            if is_slow:
                found = lookup.of_next(self._connection, part, self._chunk)
            if found.seqs:
                self._values["seqs"] = found.seqs
                self._take(["seq = ANY(:seqs::bigint[])", WORDS.topic_is_wanted], found.part)
            else:
                self._reached = _end(found.part)
            self._pace(began)
            yield
            if found.is_last:
                return
            part = _behind(part, self._reached)

    def _pace(self, began: float) -> None:
        """Look at more at a time while that is quick."""
        took = time.monotonic() - began
        if took < _QUICK:
            self._chunk = min(_MOST, self._chunk * 4)
        elif took > _SLOW:
            self._chunk = max(search_range.LOOK_EVERY, self._chunk // 2)


def _topics(
    connection: PostgresConnection, wanted: MessageFilter, values: dict[str, Any]
) -> list[str] | None:
    """Return the topics to look into; None: into all messages."""
    if wanted.topic is not None and wanted.patterns is None:
        return [wanted.topic]
    if wanted.topics is None and wanted.patterns is None:
        return None
    names = connection.execute(
        f"SELECT topic FROM topics WHERE {WORDS.topic_is_wanted} LIMIT {_MOST_NAMED + 1}", values
    ).fetchall()
    return None if len(names) > _MOST_NAMED else [name for (name,) in names]


def _end(part: SearchRange) -> int:
    """Return the last number of a part."""
    return part.low + 1 if part.descending else part.high - 1


def _behind(part: SearchRange, seq: int) -> SearchRange:
    """Return what is left of a part behind a row."""
    return part._replace(high=seq) if part.descending else part._replace(low=seq)


def _has(words: SearchWords, row: StoredMessage) -> bool:
    return bool(row.text) and words.matches(searchable(row.body.decode(errors="replace")))
