"""The full-text index: a table beside the messages, in which a search looks up the words.

The janitor fills it (`indexer`), so that storing a message costs nothing for it; a message that is
deleted takes its words along. It narrows a search down and decides nothing: each row that it finds
is looked at by `SearchWords.matches`, which is what a search means on every engine.
"""

# ruff: noqa: S608  # the SQL is put together from texts of this module, and values are bound

from collections.abc import Sequence
from typing import Final, NamedTuple

from appliance.model.search_words import LONGEST_WORD, SearchWords, Term, plain_words, searchable
from appliance.store.postgresql.connections import PostgresConnection
from appliance.store.sql.database import SqlConnection
from appliance.store.sql.search_range import SearchRange

#: Number of this form of the words; an index of another form is made anew.
VERSION: Final = 1
#: Every row before the first one that is indexed, where none is.
EVERYTHING: Final = -(2**63)
#: Rows whose change is not in the index yet, beyond which the index is not asked.
_MOST_CHANGED: Final = 5000
#: Topics that a search is narrowed down to in the index.
_MOST_TOPICS: Final = 50
#: Rows that one look-up finds, and bytes of their bodies, at most.
_MOST_FOUND: Final = 512
_FOUND_BYTES: Final = 2 * 2**20
#: Bytes of words in a row of the index: PostgreSQL takes a `tsvector` of less than 1 MiB, which
#: adds some bytes to each word.
_MOST_BYTES: Final = 600_000
_BYTES_OF_A_WORD: Final = 8
#: Stands for words that are too many: such a row is one that every search looks at. No word and no
#: topic is the same.
_ANY: Final = "/*"

_CHANGED: Final = "SELECT seq FROM search_changes ORDER BY seq LIMIT ?"
_PROGRESS: Final = "SELECT low, high FROM search_progress WHERE version = ?"


class Hits(NamedTuple):
    """Rows that may have the words, in the part of a range that they are all of.

    `is_last` says that nothing of the range lies behind that part.
    """

    seqs: list[int]
    part: SearchRange
    is_last: bool


class WordsProgress(NamedTuple):
    """The rows that are indexed: from `low` to `high`, both included."""

    low: int
    high: int


class WordLookup(NamedTuple):
    """One search in the index: the rows that it covers, and those that it has as they were."""

    query: str
    low: int
    high: int
    changed: list[int]

    def first(self, connection: PostgresConnection, part: SearchRange, most: int) -> Hits:
        """Return the first rows that have the words, found by the words."""
        most = min(most, _MOST_FOUND)
        rows = connection.execute(
            "SELECT seq FROM search_words WHERE words @@ :query::tsquery "
            f"AND seq > {part.low} AND seq < {part.high} ORDER BY seq {part.order} LIMIT :most",
            {"query": self.query, "most": most},
        ).fetchall()
        seqs = [seq for (seq,) in rows]
        whole = part if len(seqs) < most else part.up_to(seqs[-1])
        return self._bounded(connection, seqs, whole, is_last=len(seqs) < most)

    def of_next(self, connection: PostgresConnection, part: SearchRange, most: int) -> Hits:
        """Return those of the next rows that have the words, found row by row."""
        rows = connection.execute(
            "SELECT seq, words @@ :query::tsquery FROM search_words "
            f"WHERE seq > {part.low} AND seq < {part.high} ORDER BY seq {part.order} LIMIT :most",
            {"query": self.query, "most": most},
        ).fetchall()
        seqs = [seq for seq, has_words in rows if has_words]
        is_last = len(rows) < most
        if len(seqs) > _MOST_FOUND:
            del seqs[_MOST_FOUND:]
            return self._bounded(connection, seqs, part.up_to(seqs[-1]), is_last=False)
        whole = part if is_last else part.up_to(rows[-1][0])
        return self._bounded(connection, seqs, whole, is_last=is_last)

    def _bounded(
        self, connection: PostgresConnection, seqs: list[int], part: SearchRange, *, is_last: bool
    ) -> Hits:
        """Return the first of these rows, with those that were changed; their bodies are few MB."""
        changed = {seq for seq in self.changed if part.low < seq < part.high}
        both = sorted(changed.union(seqs), reverse=part.descending)
        if not both:
            return Hits([], part, is_last)
        sizes = connection.execute(
            "SELECT seq, coalesce(octet_length(body_bytes), octet_length(body)) FROM messages "
            f"WHERE seq = ANY(:seqs::bigint[]) ORDER BY seq {part.order}",
            {"seqs": both},
        ).fetchall()
        size = 0
        for place, (seq, bytes_) in enumerate(sizes):
            size += bytes_
            if size > _FOUND_BYTES and place < len(sizes) - 1:
                return Hits([each for each, _ in sizes[: place + 1]], part.up_to(seq), False)
        return Hits([seq for seq, _ in sizes], part, is_last)


def lookup(
    connection: PostgresConnection, words: SearchWords | None, topics: Sequence[str] | None
) -> WordLookup | None:
    """Prepare a search; None where the index is of no use for it."""
    query = query_text(words, topics) if words else ""
    if not query:
        return None
    # Before the progress is read: a change that comes later is one of a row that is found as it
    # was when the search began.
    changed = connection.execute(_CHANGED, (_MOST_CHANGED + 1,)).fetchall()
    progress = read_progress(connection)
    if progress is None or len(changed) > _MOST_CHANGED:
        return None
    return WordLookup(query, progress.low, progress.high, [seq for (seq,) in changed])


def read_progress(connection: SqlConnection) -> WordsProgress | None:
    """Return which rows are indexed; None where none is, or the index has another form."""
    row = connection.execute(_PROGRESS, (VERSION,)).fetchone()
    return None if row is None else WordsProgress._make(row)


def query_text(words: SearchWords, topics: Sequence[str] | None) -> str:
    """Return a search as a `tsquery`; empty where the index can't narrow it down.

    It finds every row that has the words, and others: the index knows no order of words.
    """
    wanted = [term for term in words.terms if term.words and not term.is_excluded]
    if not wanted:
        return ""
    texts = [_all_of(term) for term in wanted]
    # A phrase that must not be there says nothing of its single words.
    texts += [
        f"!{_all_of(term)}" for term in words.terms if len(term.words) == 1 and term.is_excluded
    ]
    text = f"({' & '.join(texts)} | {_quoted(_ANY)})"
    if topics is not None and 0 < len(topics) <= _MOST_TOPICS:
        names = " | ".join(_quoted(f"/{topic}") for topic in topics)
        text += f" & ({names})"
    return text


def lexemes(topic: str, body: str | None) -> list[str]:
    """Return the words of a message as the index has them; `body` is None where it is no text."""
    if body is None:
        return [f"/{topic}"]
    words = {word[: LONGEST_WORD + 1] for word in plain_words(searchable(body)).split(" ")} - {""}
    if sum(len(word.encode()) + _BYTES_OF_A_WORD for word in words) > _MOST_BYTES:
        words = {_ANY}
    return [f"/{topic}", *words]


def _all_of(term: Term) -> str:
    *before, last = term.words
    texts = [*map(_quoted, before), _quoted(last) + ":*" * term.is_prefix]
    return f"({' & '.join(texts)})"


def _quoted(word: str) -> str:
    return "'" + word.replace("\\", "\\\\").replace("'", "''") + "'"
