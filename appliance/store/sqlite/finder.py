"""Finds messages by a filter: goes through the candidates in order, until a page is full.

Every search is bounded in time. Candidates are numbers of rows, from the narrowest source there is;
rows are read one by one. So it is always known how far a search came, and the next page goes on
there.
"""

# ruff: noqa: S608  # the SQL is put together from texts of this package, and values are bound

import heapq
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import Any, Final, NamedTuple

from appliance.errors import SlowReadError
from appliance.model.search_words import SearchWords, searchable
from appliance.store.filters import Found, MessageFilter
from appliance.store.rows import StoredMessage
from appliance.store.sql import expiry, search_range
from appliance.store.sql.search_range import SearchRange
from appliance.store.sqlite import json_indexes, where_sql
from appliance.store.sqlite.database import sqlite3
from appliance.store.sqlite.search_index import IndexTrouble, Lookup, SearchIndex
from appliance.store.sqlite.sql_words import WORDS

#: Steps of SQLite's machine between two looks at the clock: about a millisecond.
_STEPS: Final = 20_000

COLUMNS: Final = WORDS.message


class Candidate(NamedTuple):
    """A row that may be wanted. `fits`: it fulfils all but the words; None: not known yet.

    `is_sure` says that its words are as searched.
    """

    seq: int
    fits: int | None
    is_sure: bool = True


def find(
    connection: Any,
    index: SearchIndex,
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
    with _bounded(connection, seconds + patience):
        names = _topics(connection, wanted)
        with suppress(IndexTrouble), index.lookup(wanted.words, names, connection) as lookup:
            search = _Search(connection, lookup, wanted, bounds, newest)
            return search.run(limit, max_bytes, time.monotonic() + seconds)
        # The index can't be read.
        search = _Search(connection, None, wanted, bounds, newest)
        return search.run(limit, max_bytes, time.monotonic() + seconds)


class _Search:
    def __init__(
        self,
        connection: Any,
        lookup: Lookup | None,
        wanted: MessageFilter,
        bounds: SearchRange,
        newest: int,
    ) -> None:
        self._connection = connection
        self._lookup = lookup
        self._wanted = wanted
        self._bounds = bounds
        self._newest = newest
        self._values: dict[str, Any] = where_sql.topic_values(wanted)
        self._conditions = where_sql.of_filter(wanted, self._values) + expiry.hides(
            connection, WORDS
        )
        for name, sign in (("since", ">="), ("until", "<")):
            if (moment := getattr(wanted, name)) is not None:
                self._conditions.append(f"received_at {sign} :{name}")
                self._values[name] = moment

    def run(self, limit: int, max_bytes: int, deadline: float) -> Found:
        rows: list[StoredMessage] = []
        size = 0
        reached = self._bounds.high if self._bounds.descending else self._bounds.low
        looked = 0
        try:
            with closing(self._candidates()) as candidates:
                for candidate in candidates:
                    looked += 1
                    if looked % search_range.LOOK_EVERY == 0 and time.monotonic() > deadline:
                        return Found(rows, True, reached, self._newest, is_complete=False)
                    row = self._row(candidate)
                    if row is not None:
                        size += len(row.body)
                        if len(rows) == limit or (rows and size > max_bytes):
                            return Found(rows, True, rows[-1].seq, self._newest)
                        rows.append(row)
                    reached = candidate.seq
        except sqlite3.OperationalError as error:
            if not looked or getattr(error, "sqlite_errorname", "") != "SQLITE_INTERRUPT":
                raise
            return Found(rows, True, reached, self._newest, is_complete=False)
        return Found(rows, False, reached, self._newest)

    def _row(self, candidate: Candidate) -> StoredMessage | None:
        """Return the row of a candidate that is wanted; None for any other."""
        if candidate.fits == 0:
            return None
        query, values = f"SELECT {COLUMNS} FROM messages WHERE seq = :seq", {"seq": candidate.seq}
        if candidate.fits is None:
            query += f" AND {_all_of([*self._conditions, where_sql.TOPIC])}"
            values |= self._values
        found = self._connection.execute(query, values).fetchone()
        if found is None:
            return None
        row = StoredMessage._make(found)
        words = self._wanted.words
        return row if words is None or candidate.is_sure or _has(words, row) else None

    def _candidates(self) -> Generator[Candidate]:
        """Yield every row of the bounds that can be what is searched, in order.

        Of a search for words, the newest rows are not in the index yet, and perhaps the oldest.
        """
        lookup, bounds = self._lookup, self._bounds
        if lookup is None:
            yield from self._scan(bounds)
            return
        parts = [
            (self._scan, bounds._replace(low=max(bounds.low, lookup.high))),
            (
                self._indexed,
                bounds._replace(
                    low=max(bounds.low, lookup.low - 1), high=min(bounds.high, lookup.high + 1)
                ),
            ),
            (self._scan, bounds._replace(high=min(bounds.high, lookup.low))),
        ]
        for read, part in parts if bounds.descending else reversed(parts):
            if part.high - part.low > 1:
                yield from read(part)

    def _indexed(self, part: SearchRange) -> Iterator[Candidate]:
        """Yield the rows that have the words by the index, and those that were changed since."""
        lookup, words = self._lookup, self._wanted.words
        if lookup is None or words is None:
            return
        changed = [seq for seq in lookup.changed if part.low < seq < part.high]
        left_out = frozenset(changed)
        is_sure = all(term.words for term in words.terms)
        others = [
            Candidate(seq, None, is_sure=False)
            for seq in (reversed(changed) if part.descending else changed)
        ]
        with closing(lookup.seqs(part.low, part.high, part.order)) as seqs:
            found = (Candidate(seq, None, is_sure=is_sure) for seq in seqs if seq not in left_out)
            yield from heapq.merge(found, others, key=_place, reverse=part.descending)

    def _scan(self, part: SearchRange) -> Iterator[Candidate]:
        """Yield every row of the topics that can be wanted."""
        names = _topics(self._connection, self._wanted)
        if names is None:
            tests = list(self._conditions)
            if self._wanted.topics is not None or self._wanted.patterns is not None:
                tests.append(where_sql.TOPIC)
            yield from self._select("messages", "1", tests, part)
        else:
            with ExitStack() as stack:
                sources = self._of_topics(names, part)
                for each in sources:
                    stack.enter_context(closing(each))
                yield from heapq.merge(*sources, key=_place, reverse=part.descending)

    def _of_topics(self, names: list[str], part: SearchRange) -> list[Generator[Candidate]]:
        """Return the rows of each topic; of one topic only those that an index of a value has."""
        if len(names) == 1:
            places = json_indexes.lookups(self._connection, names[0], self._wanted.where)
            if places:
                return [
                    self._select(
                        place.source,
                        place.condition,
                        self._conditions,
                        part,
                        indexed=place.indexed,
                    )
                    for place in places
                ]
        source = "messages INDEXED BY messages_topic"
        return [
            self._select(source, "topic = :topic", self._conditions, part, topic=name)
            for name in names
        ]

    def _select(
        self, source: str, place: str, tests: list[str], part: SearchRange, **values: object
    ) -> Generator[Candidate]:
        """Yield each row of a place, and whether it fulfils the tests."""
        cursor = self._connection.execute(
            f"SELECT seq, {_all_of(tests)}, :sure FROM {source} "
            f"WHERE {place} AND seq > :low AND seq < :high ORDER BY seq {part.order}",
            {
                **self._values,
                **values,
                "sure": self._wanted.words is None,
                "low": part.low,
                "high": part.high,
            },
        )
        try:
            yield from map(Candidate._make, cursor)
        finally:
            cursor.close()  # a statement that is not at its end keeps its snapshot


def _topics(connection: Any, wanted: MessageFilter) -> list[str] | None:
    """Return the topics to look into; None: into all messages."""
    if wanted.topic is not None and wanted.patterns is None:
        return [wanted.topic]
    if wanted.topics is None and wanted.patterns is None:
        return None
    names = connection.execute(
        f"SELECT topic FROM topics WHERE {where_sql.TOPIC} LIMIT {search_range.MOST_TOPICS + 1}",
        where_sql.topic_values(wanted),
    ).fetchall()
    return None if len(names) > search_range.MOST_TOPICS else [name for (name,) in names]


def _place(candidate: Candidate) -> int:
    return candidate.seq


def _all_of(tests: list[str]) -> str:
    return " AND ".join(f"({test})" for test in tests) or "1"


def _has(words: SearchWords, row: StoredMessage) -> bool:
    return bool(row.text) and words.matches(searchable(row.body.decode(errors="replace")))


@contextmanager
def _bounded(connection: Any, seconds: float) -> Iterator[None]:
    """End any statement on a connection after some seconds."""
    end = time.monotonic() + seconds
    connection.set_progress_handler(lambda: time.monotonic() > end, _STEPS)
    try:
        yield
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorname", "") != "SQLITE_INTERRUPT":
            raise
        raise SlowReadError(
            f"the search found nothing in {seconds:.0f} s; ask for one topic, for less time "
            "(since, until), or for fewer conditions"
        ) from error
    finally:
        connection.set_progress_handler(None, 0)
