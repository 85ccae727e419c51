"""Delayed messages as the API lists and cancels them, and as the worker looks for due ones."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from appliance.store.access_rows import Deed
from appliance.store.delayed_rows import DelayedRow, DelayedWaiting
from appliance.store.sqlite import audit_table, delayed_table
from appliance.store.sqlite.connections import ThreadConnections
from appliance.store.sqlite.database import sqlite3, store_error
from appliance.store.sqlite.reader import MATCHES, SqliteReader, pattern_text
from appliance.store.sqlite.short_write import writing

_COLUMNS: Final = (
    "seq, id, topic, content_type, meta, accepted_at, due_at, octet_length(body) AS bytes"
)


class SqliteDelayed:
    """Reads through `reader`, and cancels in short transactions on connections of their own."""

    def __init__(self, path: Path, reader: SqliteReader) -> None:
        self._path = path
        self._reader = reader
        self._looks = ThreadConnections(path)

    def is_any_due(self, at: str) -> bool:
        """Whether a message is due at `at`, or a cancelled one is to go."""
        connection = self._looks.get()
        try:
            row = connection.execute("SELECT min(due_at) FROM delayed_messages").fetchone()
        except sqlite3.Error as error:
            self._looks.drop(connection)
            raise store_error(error, self._path) from error
        return row[0] is not None and row[0] <= at

    def look_away(self) -> None:
        """Close the connection of `is_any_due`."""
        self._looks.close()

    def page(
        self, after: tuple[str, int], limit: int, patterns: Sequence[str] | None = None
    ) -> list[DelayedRow]:
        """Return up to `limit` messages by when they are due, from the first one after `after`."""
        with self._reader.reading() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM delayed_messages WHERE cancelled_at IS NULL "  # noqa: S608  # ours
                f"AND (due_at, seq) > (:due_at, :seq) AND {MATCHES} "
                "ORDER BY due_at, seq LIMIT :limit",
                {"due_at": after[0], "seq": after[1], "limit": limit,
                 "patterns": pattern_text(patterns)},
            ).fetchall()  # fmt: skip
        return [DelayedRow._make(row) for row in rows]

    def find(self, message_id: str) -> DelayedRow | None:
        """Return the message with this id, if it waits."""
        with self._reader.reading() as connection:
            row = connection.execute(
                f"SELECT {_COLUMNS} FROM delayed_messages "  # noqa: S608  # ours
                "WHERE id = ? AND cancelled_at IS NULL",
                (message_id,),
            ).fetchone()
        return None if row is None else DelayedRow._make(row)

    def waiting(self, patterns: Sequence[str] | None = None) -> DelayedWaiting:
        """Return how many messages wait, and when the first one is due."""
        with self._reader.reading() as connection:
            row = connection.execute(
                "SELECT count(*), min(due_at) FROM delayed_messages "  # noqa: S608  # ours
                f"WHERE cancelled_at IS NULL AND {MATCHES}",
                {"patterns": pattern_text(patterns)},
            ).fetchone()
        return DelayedWaiting._make(row)

    def count(self) -> int:
        """Return how many messages wait."""
        return self.waiting().messages

    def cancel(self, message_id: str, deed: Deed) -> bool:
        """Let a message never become a row; return whether it waited."""
        with writing(self._path) as connection:
            row = delayed_table.cancel(connection, message_id)
            if row is not None:
                topic, due_at = row
                audit_table.write(
                    connection, deed._replace(details=f"topic {topic}, due at {due_at}")
                )
        return row is not None
