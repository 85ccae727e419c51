"""Delayed messages as the API lists and cancels them, and as the worker looks for due ones."""

from collections.abc import Sequence

from appliance.store.access_rows import Deed
from appliance.store.delayed_rows import DelayedRow, DelayedWaiting
from appliance.store.sql import audit_table, delayed_table
from appliance.store.sql.database import SqlDatabase
from appliance.store.sql.patterns import pattern_text


class StoredDelayed:
    """Reads, and cancels in short transactions."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database
        self._looks = database.apart()
        self._columns = (
            "seq, id, topic, content_type, meta, accepted_at, due_at, "
            f"{database.words.body_bytes} AS bytes"
        )
        self._matches = database.words.matches

    def is_any_due(self, at: str) -> bool:
        """Whether a message is due at `at`, or a cancelled one is to go."""
        with self._looks.reading() as connection:
            row = connection.execute("SELECT min(due_at) FROM delayed_messages").fetchone()
        return row[0] is not None and row[0] <= at

    def look_away(self) -> None:
        """Close the connections of `is_any_due`; one that is in use, after its use."""
        self._looks.close()

    def page(
        self, after: tuple[str, int], limit: int, patterns: Sequence[str] | None = None
    ) -> list[DelayedRow]:
        """Return up to `limit` messages by when they are due, from the first one after `after`."""
        with self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT {self._columns} FROM delayed_messages WHERE cancelled_at IS NULL "  # noqa: S608  # ours
                f"AND (due_at, seq) > (:due_at, :seq) AND {self._matches} "
                "ORDER BY due_at, seq LIMIT :limit",
                {"due_at": after[0], "seq": after[1], "limit": limit,
                 "patterns": pattern_text(patterns)},
            ).fetchall()  # fmt: skip
        return [DelayedRow._make(row) for row in rows]

    def find(self, message_id: str) -> DelayedRow | None:
        """Return the message with this id, if it waits."""
        with self._database.reading() as connection:
            row = connection.execute(
                f"SELECT {self._columns} FROM delayed_messages "  # noqa: S608  # ours
                "WHERE id = ? AND cancelled_at IS NULL",
                (message_id,),
            ).fetchone()
        return None if row is None else DelayedRow._make(row)

    def waiting(self, patterns: Sequence[str] | None = None) -> DelayedWaiting:
        """Return how many messages wait, and when the first one is due."""
        with self._database.reading() as connection:
            row = connection.execute(
                "SELECT count(*), min(due_at) FROM delayed_messages "  # noqa: S608  # ours
                f"WHERE cancelled_at IS NULL AND {self._matches}",
                {"patterns": pattern_text(patterns)},
            ).fetchone()
        return DelayedWaiting._make(row)

    def count(self) -> int:
        """Return how many messages wait."""
        return self.waiting().messages

    def cancel(self, message_id: str, deed: Deed) -> bool:
        """Let a message never become a row; return whether it waited."""
        with self._database.writing() as connection:
            row = delayed_table.cancel(connection, self._database.words, message_id)
            if row is not None:
                topic, due_at = row
                audit_table.write(
                    connection, deed._replace(details=f"topic {topic}, due at {due_at}")
                )
        return row is not None
