"""Dead letters: reading them page by page, and removing one.

A letter is named by its `seq`: several may carry the same message's id, since an idempotency key
that came with a third body is a second conflict.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

from appliance.store.sqlite.connection import connect, sqlite3, store_error
from appliance.store.sqlite.paging import PAGE_BYTES, Page, Span, pieces, take
from appliance.store.sqlite.reader import Reader

#: Bytes of a body that is shown with its letter; a longer one is asked for by itself. What another
#: client publishes may be a hundred times what the appliance takes.
SHOWN_BYTES: Final = PAGE_BYTES
#: Milliseconds to wait for another's write before a removal.
_BUSY_TIMEOUT_MS: Final = 1500

_COLUMNS: Final = f"""
    seq, id, topic, received_at, dead_at, reason, error, octet_length(body),
    CASE WHEN octet_length(body) <= {SHOWN_BYTES} THEN CAST(body AS BLOB) END
"""


class Letter(NamedTuple):
    """One dead letter: `reason` is a stable word, `error` the same for people.

    `body` is None where its `size` in bytes is more than SHOWN_BYTES.
    """

    seq: int
    id: str
    topic: str
    received_at: str
    dead_at: str
    reason: str
    error: str
    size: int
    body: bytes | None


@dataclass(frozen=True, slots=True)
class Choice(Span):
    """Which letters: those of the span that have this reason and topic."""

    reason: str | None = None
    topic: str | None = None


class DeadLetters:
    """Reads through `reader`; writes, in short transactions, on a connection made for each.

    Every method raises StoreError where the database can't be used.
    """

    def __init__(self, path: Path, reader: Reader) -> None:
        self._path = path
        self._reader = reader

    def page(self, choice: Choice, limit: int, max_bytes: int = PAGE_BYTES) -> Page[Letter]:
        """Return up to `limit` letters with up to `max_bytes` of bodies; at least one if any."""
        where, values = _where(choice)
        order = "DESC" if choice.after is None else "ASC"
        query = f"SELECT {_COLUMNS} FROM dead_letters {where} ORDER BY seq {order} LIMIT :limit"  # noqa: S608  # ours
        with self._reader.reading() as connection:
            cursor = connection.execute(query, {**values, "limit": limit + 1})
            return take(cursor, Letter._make, limit, max_bytes)

    def pieces(self, choice: Choice, limit: int | None = None) -> Iterator[list[Letter]]:
        """Yield up to `limit` letters (None: all that are there now) in lists of some 256 KiB."""
        newest = self.page(Choice(), 1).rows
        return pieces(self.page, choice, newest[0].seq if newest else 0, limit)

    def count(self, choice: Choice) -> int:
        """Return how many letters there are of the choice's reason and topic, wherever they are."""
        where, values = _where(replace(choice, before=None, after=None))
        with self._reader.reading() as connection:
            query = f"SELECT count(*) FROM dead_letters {where}"  # noqa: S608  # ours
            return int(connection.execute(query, values).fetchone()[0])

    def find(self, seq: int) -> Letter | None:
        """Return the letter with this `seq`, or None."""
        with self._reader.reading() as connection:
            query = f"SELECT {_COLUMNS} FROM dead_letters WHERE seq = ?"  # noqa: S608  # ours
            row = connection.execute(query, (seq,)).fetchone()
        return None if row is None else Letter._make(row)

    def of_message(self, message_id: str) -> list[int]:
        """Return the `seq` of each letter with this message's id, oldest first."""
        with self._reader.reading() as connection:
            query = "SELECT seq FROM dead_letters WHERE id = ? ORDER BY seq"
            return [row[0] for row in connection.execute(query, (message_id,))]

    def body(self, seq: int) -> bytes | None:
        """Return a letter's body, however long it is; None where there is no such letter."""
        with self._reader.reading() as connection:
            query = "SELECT CAST(body AS BLOB) FROM dead_letters WHERE seq = ?"
            row = connection.execute(query, (seq,)).fetchone()
        return None if row is None else row[0]

    def remove(self, letter: Letter) -> bool:
        """Remove a letter; whether it was there as it was read.

        One that has died again since then (its `dead_at` has changed) is another one and stays.
        """
        try:
            connection = connect(self._path, readonly=False)
            try:
                # Longer than any transaction of ours takes, short for a thread of the API.
                connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
                # A checkpoint may take long; the worker and the janitor see to it.
                connection.execute("PRAGMA wal_autocheckpoint = 0")
                connection.execute("BEGIN IMMEDIATE")
                removed = connection.execute(
                    "DELETE FROM dead_letters WHERE seq = ? AND dead_at = ?",
                    (letter.seq, letter.dead_at),
                ).rowcount
                connection.execute("COMMIT")
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise store_error(error, self._path) from error
        return bool(removed)


def _where(choice: Choice) -> tuple[str, dict[str, Any]]:
    """Return the condition, and the values of its parameters."""
    conditions = {
        "reason": "reason = :reason",
        "topic": "topic = :topic",
        "before": "seq < :before",
        "after": "seq > :after",
    }
    values = {name: getattr(choice, name) for name in conditions}
    given = {name: value for name, value in values.items() if value is not None}
    text = " AND ".join(conditions[name] for name in given)
    return (f"WHERE {text}" if text else ""), given
