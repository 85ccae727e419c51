"""Reads the messages of a selection piece by piece: each read is short, however few are wanted.

Called with an open connection. Rows are looked at in the order of storing, a bounded number of them
in each read; words are looked for in the texts themselves, so that no index need be up to date.
"""

# ruff: noqa: S608  # the SQL is put together from texts of this package, and values are bound

import json
import time
from typing import Any, Final, NamedTuple

from appliance.model.search_words import searchable
from appliance.model.seq_parts import seqs_of
from appliance.model.topics import CANARY_TOPIC
from appliance.store.filters import MessageFilter
from appliance.store.paging import take
from appliance.store.replay_rows import ReplayPart, ReplayWork
from appliance.store.rows import StoredMessage
from appliance.store.sql import expiry
from appliance.store.sql.database import SqlConnection, SqlWords
from appliance.store.sql.marks import DISORDER, last_before
from appliance.store.sql.patterns import wanted_topics

#: Numbers that one read looks through, however few of them are wanted; and those where it looks at
#: bodies, each of which can take milliseconds.
_SEARCHED: Final = 5000
_SEARCHED_BODIES: Final = 500
#: The same where messages are only counted.
_COUNTED: Final = 50_000
_COUNTED_BODIES: Final = 2000


class _Source(NamedTuple):
    """Where the next candidates are: a table, conditions and values, up to `upto`."""

    table: str
    where: list[str]
    values: dict[str, Any]
    upto: int


def bounds(
    connection: SqlConnection, wanted: MessageFilter, first: int | None, last: int | None
) -> tuple[int, int]:
    """Return behind and up to which place everything lies that is stored now and wanted."""
    newest = connection.execute("SELECT max(seq) FROM messages").fetchone()[0] or 0
    after, until = max(0, (first or 1) - 1), newest if last is None else min(last, newest)
    if wanted.since is not None:
        after = max(after, last_before(connection, wanted.since, -DISORDER))
    if wanted.until is not None:
        until = min(until, last_before(connection, wanted.until, DISORDER))
    return min(after, newest), max(min(after, newest), until)


def replay_part(
    connection: SqlConnection,
    words: SqlWords,
    work: ReplayWork,
    after: int,
    limit: int,
    max_bytes: int,
) -> ReplayPart:
    """Return the next messages of a replay behind `after`; can be none, before its end too.

    One whose numbers someone broke by SQL has none.
    """
    if work.wanted is None:
        try:
            return _numbered(connection, words, work, after, limit, max_bytes)
        except ValueError:
            return ReplayPart([], work.until)
    wanted = work.wanted
    source = _source(connection, words, wanted, after, work.until, _SEARCHED, _SEARCHED_BODIES)
    cursor = connection.execute(
        words.page_of(source.table, source.where, "ASC"),
        {**source.values, "limit": limit + 1, "max_bytes": max_bytes},
    )
    page = take(cursor, StoredMessage._make, limit, max_bytes)
    end = page.rows[-1].seq if page.more else source.upto
    return ReplayPart([row for row in page.rows if _has_words(wanted, row)], end)


def count(
    connection: SqlConnection,
    words: SqlWords,
    wanted: MessageFilter,
    after: int,
    until: int,
    seconds: float,
) -> tuple[int, bool]:
    """Return how many messages are wanted, and whether all were looked at in the time there is."""
    deadline, counted = time.monotonic() + seconds, 0
    while after < until:
        if time.monotonic() > deadline:
            return counted, False
        most = _SEARCHED_BODIES if wanted.words else _COUNTED_BODIES
        source = _source(connection, words, wanted, after, until, _COUNTED, most)
        query = f"FROM {source.table} WHERE {' AND '.join(source.where)}"
        if wanted.words is None:
            counted += connection.execute(f"SELECT count(*) {query}", source.values).fetchone()[0]
        else:
            rows = connection.execute(f"SELECT {words.message} {query}", source.values)
            counted += sum(_has_words(wanted, StoredMessage._make(row)) for row in rows)
        after = source.upto
    return counted, True


def _source(
    connection: SqlConnection,
    words: SqlWords,
    wanted: MessageFilter,
    after: int,
    until: int,
    most: int,
    most_bodies: int,
) -> _Source:
    """Return the next candidates: as many as one read looks at, and no gap step by step."""
    values: dict[str, Any] = {"after": after}
    where = [*words.conditions(wanted, values), *expiry.hides(connection, words)]
    most = most_bodies if where or wanted.words is not None else most
    for name, sign in (("since", ">="), ("until", "<")):
        if (moment := getattr(wanted, name)) is not None:
            where.append(f"received_at {sign} :{name}_time")
            values[f"{name}_time"] = moment
    if wanted.topic is not None:
        table = words.by_topic
        where.append("topic = :topic")
        values["topic"] = wanted.topic
        last = connection.execute(
            f"SELECT seq FROM {table} WHERE topic = ? AND seq > ? AND seq <= ? "
            "ORDER BY seq LIMIT 1 OFFSET ?",
            (wanted.topic, after, until, most - 1),
        ).fetchone()
        upto = until if last is None else last[0]
    else:
        table = words.by_seq
        where += ["topic <> :canary", words.topic_is_wanted]
        values |= {"canary": CANARY_TOPIC, **wanted_topics(wanted)}
        query = "SELECT min(seq) FROM messages WHERE seq > ?"
        first = connection.execute(query, (after,)).fetchone()[0]
        begin = until if first is None else max(after, min(first - 1, until))
        upto = min(until, begin + most)
    values["upto"] = upto
    return _Source(table, ["seq > :after", "seq <= :upto", *where], values, upto)


def _has_words(wanted: MessageFilter, row: StoredMessage) -> bool:
    words = wanted.words
    return words is None or (
        bool(row.text) and words.matches(searchable(row.body.decode(errors="replace")))
    )


def _numbered(
    connection: SqlConnection,
    words: SqlWords,
    work: ReplayWork,
    after: int,
    limit: int,
    max_bytes: int,
) -> ReplayPart:
    """Return the next of those messages whose numbers are kept."""
    row = connection.execute(
        "SELECT packed FROM replay_parts WHERE replay = ? AND last > ? ORDER BY last LIMIT 1",
        (work.id, after),
    ).fetchone()
    if row is None:
        return ReplayPart([], work.until)
    seqs = [seq for seq in seqs_of(row[0]) if after < seq <= work.until][:limit]
    if not seqs:
        return ReplayPart([], work.until)
    where = [f"seq IN ({words.numbers_of(':seqs')})", *expiry.hides(connection, words)]
    cursor = connection.execute(
        words.page_of("messages", where, "ASC"),
        {"seqs": json.dumps(seqs), "limit": len(seqs), "max_bytes": max_bytes},
    )
    page = take(cursor, StoredMessage._make, limit, max_bytes)
    end = page.rows[-1].seq if page.more else seqs[-1]
    return ReplayPart(page.rows, end, sum(seq <= end for seq in seqs) - len(page.rows))
