"""Finds messages by a filter: goes through the candidates in order, until a page is full.

Every search is bounded in time. Candidates are numbers of rows, from the narrowest source there is;
rows are read one by one. So it is always known how far a search came, and the next page goes on
there.
"""

# ruff: noqa: S608  # the SQL is put together from texts of this package, and values are bound

import heapq
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from appliance.errors import SlowReadError
from appliance.model.search_words import SearchWords, searchable
from appliance.store.filters import Found, MessageFilter
from appliance.store.rows import StoredMessage
from appliance.store.sqlite import where_sql
from appliance.store.sqlite.database import sqlite3

#: Seconds after which a search answers with what it has.
FIND_SECONDS: Final = 2.0
#: Seconds more for one row: a statement that takes longer is ended.
_PATIENCE: Final = 1.0
#: Steps of SQLite's machine between two looks at the clock: about a millisecond.
_STEPS: Final = 20_000
#: Topics that are read side by side. Where there are more, all messages are looked at in order.
_MOST_TOPICS: Final = 100
#: Candidates between two looks at the clock.
_LOOK_EVERY: Final = 64

COLUMNS: Final = (
    "seq, id, topic, received_at, typeof(body) = 'text', CAST(body AS BLOB), content_type, meta"
)


class Candidate(NamedTuple):
    """A row that may be what is searched, if `fits`; `is_sure`: its words are as searched."""

    seq: int
    fits: int
    is_sure: bool = True


class Range(NamedTuple):
    """Rows above `low` and below `high`, in order or newest first."""

    low: int
    high: int
    descending: bool

    @property
    def order(self) -> str:
        """The direction in SQL."""
        return "DESC" if self.descending else "ASC"


def find(
    connection: Any,
    wanted: MessageFilter,
    bounds: Range,
    newest: int,
    limit: int,
    max_bytes: int,
) -> Found:
    """Return a page of the rows within `bounds` that a filter wants.

    `newest` is the last row that is stored.

    Raises SlowReadError where not even one row could be looked at in time.
    """
    search = _Search(connection, wanted, bounds, newest)
    with _bounded(connection, FIND_SECONDS + _PATIENCE):
        return search.run(limit, max_bytes, time.monotonic() + FIND_SECONDS)


class _Search:
    def __init__(self, connection: Any, wanted: MessageFilter, bounds: Range, newest: int) -> None:
        self._connection = connection
        self._wanted = wanted
        self._bounds = bounds
        self._newest = newest
        self._values: dict[str, Any] = {"low": bounds.low, "high": bounds.high}
        self._conditions = where_sql.of_filter(wanted, self._values)
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
            for candidate in self._candidates():
                looked += 1
                if looked % _LOOK_EVERY == 0 and time.monotonic() > deadline:
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
        if not candidate.fits:
            return None
        values = self._connection.execute(
            f"SELECT {COLUMNS} FROM messages WHERE seq = ?",
            (candidate.seq,),
        ).fetchone()
        if values is None:
            return None
        row = StoredMessage._make(values)
        words = self._wanted.words
        return row if words is None or candidate.is_sure or _has(words, row) else None

    def _candidates(self) -> Iterator[Candidate]:
        """Yield every row of the bounds that can be what is searched, in order."""
        names = self._topics()
        if names is None:
            yield from self._every_row()
        elif len(names) == 1:
            yield from self._rows_of(names[0])
        else:
            sources = [self._rows_of(name) for name in names]
            yield from heapq.merge(
                *sources, key=lambda each: each.seq, reverse=self._bounds.descending
            )

    def _topics(self) -> list[str] | None:
        """Return the topics to look into; None: into all messages."""
        wanted = self._wanted
        if wanted.topic is not None and wanted.patterns is None:
            return [wanted.topic]
        if wanted.topics is None and wanted.patterns is None:
            return None
        values = where_sql.topic_values(wanted)
        names = self._connection.execute(
            f"SELECT topic FROM topics WHERE {where_sql.TOPIC} LIMIT {_MOST_TOPICS + 1}",
            values,
        ).fetchall()
        return None if len(names) > _MOST_TOPICS else [name for (name,) in names]

    def _every_row(self) -> Iterator[Candidate]:
        tests = list(self._conditions)
        if self._wanted.topics is not None or self._wanted.patterns is not None:
            tests.append(where_sql.TOPIC)
            self._values |= where_sql.topic_values(self._wanted)
        return self._select("messages", [], tests, self._values)

    def _rows_of(self, topic: str) -> Iterator[Candidate]:
        values = self._values | {"topic": topic}
        source = "messages INDEXED BY messages_topic"
        return self._select(source, ["topic = :topic"], self._conditions, values)

    def _select(
        self, source: str, place: list[str], tests: list[str], values: dict[str, Any]
    ) -> Iterator[Candidate]:
        """Yield each row of a place, and whether it fulfils the tests."""
        fits = " AND ".join(f"({test})" for test in tests) or "1"
        where = " AND ".join([*place, "seq > :low", "seq < :high"])
        cursor = self._connection.execute(
            f"SELECT seq, {fits}, :sure FROM {source} WHERE {where} "
            f"ORDER BY seq {self._bounds.order}",
            {**values, "sure": self._wanted.words is None},
        )
        try:
            yield from map(Candidate._make, cursor)
        finally:
            cursor.close()  # a statement that is not at its end keeps its snapshot


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
