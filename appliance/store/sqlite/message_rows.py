"""Rows of messages in SQLite: those that are refused are left out, and all beside them stored.

`executemany` ends at the row that is refused, the rows before it are in the transaction, and the
same iterator goes on behind it.
"""

import operator
from collections.abc import Sequence
from typing import Any

from appliance.errors import EnvelopeError, TablesError
from appliance.model.contents import ReplayCopies
from appliance.model.ids import PREFIX_LENGTH
from appliance.model.wire import Envelope, addressed, unpack
from appliance.store.sql import replay_table
from appliance.store.sql.message_rows import DeadRow, LinesRefusedError, RolledBackError, Row
from appliance.store.sql.message_tables import ADD_TO_TOPIC, MessageTables
from appliance.store.sql.topic_sums import Sum
from appliance.store.sqlite import deletion_marks, expiry, refusal
from appliance.store.sqlite.database import sqlite3
from appliance.store.sqlite.sql_words import WORDS
from appliance.store.sqlite.tables import INSERT, INSERT_DEAD, INSERT_LINES, check_tables


class SqliteRows(MessageTables):
    """The tables, on a connection on which a transaction was begun."""

    def __init__(self, connection: Any) -> None:
        super().__init__(connection, WORDS)
        self._sqlite = connection
        self._checked = False

    def insert(self, rows: Sequence[Row], refused: dict[str, str]) -> int:
        """Insert messages whose id is not there yet; return how many they are."""
        inserted: int = 0
        left = iter(rows)
        while True:
            try:
                inserted += self._sqlite.executemany(INSERT, left).rowcount
            except (sqlite3.Error, OverflowError, ValueError, TypeError) as error:
                self._blame_values(error)
                message_id, text = rows[len(rows) - operator.length_hint(left) - 1][0], str(error)
                if not self._sqlite.in_transaction:
                    raise RolledBackError(message_id, text) from error
                refused[message_id] = text
            else:
                return inserted

    def _blame_values(self, error: Exception) -> None:
        """Return where a row's values are at fault.

        Raises TablesError where the tables are, and the error itself where the database is.
        """
        if isinstance(error, sqlite3.Error) and not refusal.is_of_values(error):
            raise error
        if not self._checked:  # not again for each of a thousand
            check_tables(self._sqlite)
            self._checked = True

    def insert_lines(self, envelope: Envelope) -> int:
        """Insert the lines of an envelope whose ids are not there yet; return how many they are."""
        self._sqlite.execute("SAVEPOINT lines")
        try:
            inserted = self._split(envelope)
            if inserted != envelope.count:
                unpack(envelope)  # raises unless the envelope is sound and was stored before
        except EnvelopeError:
            self._undo_lines()
            raise
        except sqlite3.Error as error:
            # A value that is no string, or JSON that is none: then this raises EnvelopeError.
            self._undo_lines()
            addressed(envelope)
            self._blame_values(error)
            if not self._sqlite.in_transaction:
                raise RolledBackError("", str(error)) from error
            raise LinesRefusedError(str(error)) from error
        self._sqlite.execute("RELEASE lines")
        return inserted

    def _undo_lines(self) -> None:
        if self._sqlite.in_transaction:
            self._sqlite.execute("ROLLBACK TO lines")
            self._sqlite.execute("RELEASE lines")

    def _split(self, envelope: Envelope) -> int:
        prefix, first = envelope.id[:PREFIX_LENGTH], int(envelope.id[PREFIX_LENGTH:], 16)
        try:
            text = envelope.body.decode()
        except UnicodeDecodeError as error:
            raise EnvelopeError("undecodable", f"lines: {error}") from error
        inserted: int = self._sqlite.execute(
            INSERT_LINES,
            (prefix, first, envelope.topic, envelope.received_at, envelope.content_type,
             envelope.meta, text),
        ).rowcount  # fmt: skip
        return inserted

    def add_to_topics(self, sums: Sequence[Sum]) -> None:
        """Add to the counters of topics, but for those that are refused."""
        left = iter(sums)
        while True:
            try:
                self._sqlite.executemany(ADD_TO_TOPIC, left)
            except sqlite3.Error as error:
                self._blame_values(error)
                if not self._sqlite.in_transaction:
                    raise
            else:
                return

    def add_expirations(self, after: int) -> None:
        """Note when messages behind a place are over, of those that have an end."""
        self._sqlite.execute(expiry.ADD, (after,))

    def insert_dead(self, rows: Sequence[DeadRow]) -> None:
        """Insert dead letters; one that is there gets a new time."""
        try:
            self._sqlite.executemany(INSERT_DEAD, rows)
        except sqlite3.Error as error:
            self._blame_values(error)
            raise TablesError(f"not even a dead letter can be stored: {error}") from error

    def place_deletion(self, deletion_id: str) -> None:
        """Note that the mark of an order to delete came."""
        deletion_marks.place(self._sqlite, deletion_id)

    def advance_replay(self, copies: ReplayCopies) -> bool:
        """Note which messages a replay copies; return whether it still stands where they begin."""
        return replay_table.advance(
            self._sqlite, copies.replay, copies.after, copies.reached, copies.count, copies.gone
        )
