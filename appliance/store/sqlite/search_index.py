"""The full-text index: a file beside the database, in which a search looks up the words.

It is a file of its own, and holds nothing that is not in the database: filling it keeps no worker
from storing, its loss is none, and the space is free as soon as it is off. The janitor fills it
(`indexer`); readers only look things up, and go without where it can't be used.
"""

import contextlib
import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import structlog

from appliance.errors import StoreError
from appliance.machine.complaint import Complaint
from appliance.model.search_words import SearchWords
from appliance.store.sqlite import paths
from appliance.store.sqlite.connections import FileConnection, FileReads
from appliance.store.sqlite.database import sqlite3

#: Number of this form of the index; an index of another form is made anew.
VERSION: Final = 1
#: Every row before the first one that is indexed, where none is.
EVERYTHING: Final = -(2**63)
#: Rows whose change is not in the index yet, beyond which the index is not asked.
_MOST_CHANGED: Final = 5000
#: Topics that a search is narrowed down to in the index.
_MOST_TOPICS: Final = 50

#: It is given words that are folded already (`plain_words`). The tokenizer `ascii` takes every
#: character beyond ASCII for a letter, and so leaves them as they are.
#: Without the texts themselves, the index has nine tenths of the size of small JSON bodies. With
#: `detail=none` it would have a third, and could look up no words in a row.
SCHEMA: Final = (
    f"""
    CREATE TABLE progress (                     -- one row
        one INTEGER PRIMARY KEY CHECK (one = 1),
        version INTEGER NOT NULL DEFAULT {VERSION},
        identity TEXT NOT NULL,                 -- of the database, in its table search_identity
        low INTEGER NOT NULL,                   -- messages from this seq on are indexed
        high INTEGER NOT NULL,                  -- up to this one
        high_id TEXT                            -- the id of the message `high`
    )
    """,
    """
    CREATE VIRTUAL TABLE words USING fts5 (
        topic, body, content = '', contentless_delete = 1, tokenize = 'ascii'
    )
    """,
)
_LOOK_UP: Final = "SELECT rowid FROM words WHERE words MATCH ? AND rowid > ? AND rowid < ? "
_CHANGED: Final = """
    SELECT DISTINCT seq FROM search_changes WHERE is_deleted = 0 ORDER BY seq LIMIT ?
"""

_log: Any = structlog.get_logger(__name__)


class IndexTrouble(Exception):  # noqa: N818  # it never leaves the package
    """The index can't be read: the search goes on without it."""


class IndexProgress(NamedTuple):
    """The rows that are indexed: from `low` to `high`, both included."""

    identity: str
    low: int
    high: int
    high_id: str | None


class Lookup(NamedTuple):
    """One search in the index: the rows that it covers, and those that it has as they were."""

    lent: FileConnection
    query: str
    low: int
    high: int
    changed: list[int]

    def seqs(self, low: int, high: int, order: str) -> Generator[int]:
        """Yield the rows above `low` and below `high` that have the words, in order."""
        values = (self.query, low, high)
        try:
            cursor = self.lent.connection.execute(f"{_LOOK_UP} ORDER BY rowid {order}", values)
            with contextlib.closing(cursor):
                for (seq,) in cursor:
                    yield seq
        except sqlite3.Error as error:
            raise IndexTrouble(error) from error


class SearchIndex:
    """Looks words up in the index of the database at `path`; used by any thread."""

    def __init__(self, database: Path) -> None:
        self.path = paths.search_index(database)
        self._connections = FileReads(self.path)
        self._complaint = Complaint(_log, "search index unreadable", "search index readable again")

    def close(self) -> None:
        """Close every thread's connection; one on which a thread reads, when it has read."""
        self._connections.close()

    @contextmanager
    def lookup(
        self, words: SearchWords | None, topics: Sequence[str] | None, database: Any
    ) -> Iterator[Lookup | None]:
        """Prepare a search for the block; None where the index is of no use for it.

        IndexTrouble that the block raises is reported; the janitor makes a damaged index anew.
        """
        query = match_text(words, topics) if words else ""
        changed = changed_rows(database) if query else None
        with contextlib.ExitStack() as stack:
            found = None if changed is None else self._prepare(stack, query, changed, database)
            try:
                yield found
            except IndexTrouble as trouble:
                if found is not None:
                    self._fails(found.lent, trouble.__cause__ or trouble)
                raise

    def _prepare(
        self, stack: contextlib.ExitStack, query: str, changed: list[int], database: Any
    ) -> Lookup | None:
        """Prepare a search for the time of `stack`."""
        try:
            lent = stack.enter_context(self._connections.lending())
        except StoreError:
            return None  # off, or not there yet
        try:
            # After the changes were read: one that comes later is a change of a row that is found
            # as it was when the search began.
            lent.connection.execute("BEGIN")
            stack.callback(self._end, lent)
            progress = read_progress(lent.connection)
        except sqlite3.Error as error:
            self._fails(lent, error)
            return None
        if progress is None or not fits(progress, database):
            return None
        self._complaint.works()
        return Lookup(lent, query, progress.low, progress.high, changed)

    def _fails(self, lent: FileConnection, error: BaseException) -> None:
        """Report an index that can't be read; the janitor makes one that is damaged anew."""
        self._connections.leave(lent)
        self._complaint.fails(error=f"{self.path}: {error}")
        # A search that began before the index was made anew says nothing about the new one.
        if is_damage(error) and lent.is_of_file():
            with contextlib.suppress(OSError):  # the janitor finds out by itself
                paths.damaged_mark(self.path).touch()

    def _end(self, lent: FileConnection) -> None:
        try:
            if lent.connection.in_transaction:
                lent.connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._connections.leave(lent)


def match_text(words: SearchWords, topics: Sequence[str] | None) -> str:
    """Return a search in FTS5's syntax; empty where the index can't narrow it down."""
    wanted = [term for term in words.terms if term.words and not term.is_excluded]
    if not wanted:
        return ""
    texts = [_phrase("body", term.words, "*" * term.is_prefix) for term in wanted]
    if topics is not None and 0 < len(topics) <= _MOST_TOPICS:
        names = [_phrase("topic", tuple(re.findall("[a-z0-9]+", topic))) for topic in topics]
        texts.append(f"({' OR '.join(names)})")
    text = " AND ".join(texts)
    for term in words.terms:
        if term.words and term.is_excluded:
            text = f"({text}) NOT {_phrase('body', term.words, '*' * term.is_prefix)}"
    return text


def read_progress(connection: Any) -> IndexProgress | None:
    """Return which rows are indexed; None where the index has another form, or is just made."""
    if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        return None
    row = connection.execute(
        "SELECT identity, low, high, high_id FROM progress WHERE version = ?", (VERSION,)
    ).fetchone()
    return None if row is None else IndexProgress._make(row)


def fits(progress: IndexProgress, database: Any) -> bool:
    """Whether the index is one of this database, and not of a copy that went on differently."""
    if identity_of(database) != progress.identity:
        return False
    row = database.execute("SELECT id FROM messages WHERE seq = ?", (progress.high,)).fetchone()
    # A message that is gone says nothing. Its number is not used again.
    return row is None or progress.high_id is None or row[0] == progress.high_id


def identity_of(database: Any) -> str | None:
    """Return the name that a database gives to its index; a restored backup has another one."""
    row = database.execute("SELECT identity FROM search_identity").fetchone()
    return None if row is None else str(row[0])


def changed_rows(database: Any) -> list[int] | None:
    """Return the rows that were changed since they were indexed; None if they are too many."""
    rows = database.execute(_CHANGED, (_MOST_CHANGED + 1,)).fetchall()
    return None if len(rows) > _MOST_CHANGED else [seq for (seq,) in rows]


def is_damage(error: BaseException) -> bool:
    """Whether an error tells of a file that must be made anew."""
    name = str(getattr(error, "sqlite_errorname", ""))
    return name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_ERROR", "SQLITE_SCHEMA"))


def _phrase(column: str, words: tuple[str, ...], star: str = "") -> str:
    text = " ".join(words).replace('"', '""')
    return f'{column} : "{text}"{star}'
