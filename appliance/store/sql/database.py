"""The seam between the store's common SQL and an engine: connections, and words that differ.

Statements are written with SQLite's parameters (`?` and `:name`) in the SQL that both SQLite 3.40
and PostgreSQL 15 know: `ON CONFLICT`, `RETURNING` in place of `lastrowid`, `FILTER`. What they have
no common word for is a member of `SqlWords`. Times are the texts of `model.timestamps`, truth is 0
and 1, and JSON is text, in both.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from appliance.store.base import Rest
from appliance.store.filters import MessageFilter


class SqlCursor(Protocol):
    """What a statement came to."""

    @property
    def rowcount(self) -> int:
        """How many rows it changed."""

    def fetchone(self) -> Any:
        """Return the next row, or None."""

    def fetchall(self) -> list[Any]:
        """Return all rows that are left."""

    def close(self) -> None:
        """Forget the rows that are left."""

    def __iter__(self) -> Iterator[Any]:
        """Yield the rows that are left."""


class SqlConnection(Protocol):
    """A connection within a transaction, or lent to a short read."""

    def execute(
        self, statement: str, values: Sequence[object] | Mapping[str, object] = (), /
    ) -> SqlCursor:
        """Run one statement."""

    def executemany(self, statement: str, values: Any, /) -> SqlCursor:
        """Run one statement with each of the values."""


class SqlWork(SqlConnection, Protocol):
    """A connection for many short write transactions; a read outside of them is one of its own."""

    def transaction(self) -> AbstractContextManager[None]:
        """Commit where the block ends well, else undo it."""

    def is_refused(self, error: Exception, statement: str) -> bool:
        """Whether a trigger of someone's can have caused the error of a statement.

        Asked once the transaction is undone.
        """

    def tidy(self) -> None:
        """Do what the engine needs now and then between two transactions."""

    def spare_pages(self) -> int:
        """Return how many free pages could be given back to the file system."""

    def free_pages(self, count: int) -> None:
        """Give free pages back, within a transaction."""


@dataclass(frozen=True)
class SqlWords:
    """SQL that differs from engine to engine."""

    #: A condition: `topic` matches one of the patterns in the JSON array `:patterns`, or that is
    #: NULL.
    matches: str
    #: The same of a topic, the first `{}`, and a column of patterns, the second, which may be no
    #: JSON.
    matched: str
    #: A row's body as two columns: whether it is text, and its bytes.
    body: str
    #: Bytes of a row's body.
    body_bytes: str
    #: A body as two columns of which the first that is not NULL is its value (see `body_value`),
    #: the columns that take one, and their parameters (see `body_values`).
    body_pair: str
    body_names: str
    body_marks: str
    #: Bytes of a dead letter's body.
    letter_body: str
    #: The time now, as the texts of `model.timestamps`.
    now: str
    #: A subquery of the texts in a JSON array, which takes the place of `{}`.
    texts: str
    #: A subquery of the whole numbers in a JSON array, which takes the place of `{}`.
    numbers: str
    #: The greatest `seq` that a message ever had; 0 where there was none.
    last_seq: str
    #: A query for a number that is another one after the commit of another connection.
    data_version: str
    #: A condition on a row of `messages`: it has no end, or that is not over yet.
    is_not_over: str
    #: The table `messages`, as it is read in the order of storing, and topic by topic.
    by_seq: str
    by_topic: str
    #: A row of `messages` as a `Preview` has it: kind, size and begin of its body.
    preview: str
    #: A query for rows of a `{table}`: `{columns}` of a `{source}` `{where}` in an `{order}`, at
    #: most `:limit`. Where the rows before it have more than `:max_bytes` of bodies, whose bytes
    #: are `{size}`, a row needs not come, except for one.
    page: str
    #: Returns the conditions of a filter on bodies and meta; adds what they bind to the values.
    conditions: Callable[[MessageFilter, dict[str, Any]], list[str]]

    @cached_property
    def message(self) -> str:
        """The columns of a `StoredMessage`."""
        return f"seq, id, topic, received_at, {self.body}, content_type, meta"

    @cached_property
    def topic_is_wanted(self) -> str:
        """A condition: `topic` matches one of `:topics`, and one of `:patterns`."""
        return f"{self.matches.replace(':patterns', ':topics')} AND {self.matches}"

    def page_of(self, source: str, where: Sequence[str], order: str) -> str:
        """Return the query for a page of messages that fulfil all conditions, by their `seq`.

        It binds `:limit` and `:max_bytes`; `take` makes a page of its rows.
        """
        return self.page.format(
            columns=self.message,
            source=source,
            where=" AND ".join(where),
            order=f"seq {order}",
            table="messages",
            size=self.body_bytes,
        )

    def body_values(self, body: str | bytes) -> tuple[str | bytes | None, ...]:
        """Return a body as the columns `body_names` take it."""
        if self.body_marks == "?":
            return (body,)
        return (body, None) if isinstance(body, str) else (None, body)

    def texts_of(self, parameter: str) -> str:
        """Return the subquery of the texts in the JSON array `parameter`."""
        return self.texts.format(parameter)

    def numbers_of(self, parameter: str) -> str:
        """Return the subquery of the whole numbers in the JSON array `parameter`."""
        return self.numbers.format(parameter)


def body_value(text: Any, other: Any) -> Any:
    """Return the body that the columns `SqlWords.body_pair` hold: text or bytes."""
    return other if text is None else text


class SqlDatabase(Protocol):
    """A database of one engine. Its errors come out of the blocks as StoreError."""

    @property
    def words(self) -> SqlWords:
        """The engine's words."""

    def reading(self) -> AbstractContextManager[SqlConnection]:
        """Lend this thread's connection to a short read; each statement sees what is there then."""

    def snapshot(self) -> AbstractContextManager[SqlConnection]:
        """Lend this thread's connection to a short read whose statements all see the same."""

    def exists(self) -> bool:
        """Whether there is a database, as far as that can be told without asking it."""

    def apart(self) -> "ApartDatabase":
        """Return the same database, read on connections of its own."""

    def writing(
        self, *, synced: bool = True, alone: str = ""
    ) -> AbstractContextManager[SqlConnection]:
        """Lend a connection within a transaction, which is committed where the block ends well.

        Without `synced` a power cut can undo it: for what nobody would miss. It waits for the end
        of every other transaction that names the same word as `alone`: what it reads (a name that
        is free, a number of rows) is still so when it commits. SQLite has one writer anyway.
        """

    def working(self, stop: Rest) -> AbstractContextManager[SqlWork]:
        """Lend a connection for many short transactions; the block is left where `stop` says so.

        It is called now and then during long statements too, as far as the engine can.
        """


class ApartDatabase(SqlDatabase, Protocol):
    """A database that is read on connections of its own, which can be closed."""

    def close(self) -> None:
        """Close the connections of all threads; one that is in use, after its use."""
