"""Deletions: orders that the API writes, and the work that the worker does for them.

An order is worked on once its mark came out of the queue, where it stands behind all that was sent
before it. So a message that was sent before is deleted even if it was still under way, and one that
comes again because it was not acknowledged is deleted again: its mark then comes again too. Rows
are deleted in short transactions, each with its place in the order, so that a kill loses nothing
and another worker goes on.
"""

import time
from collections.abc import Sequence
from typing import Any, Final

import structlog

from appliance.errors import LimitError
from appliance.store.access_rows import Deed
from appliance.store.base import Rest
from appliance.store.deletion_rows import Counted, DeletionRow, Selection
from appliance.store.sql import audit_table, deletion_table
from appliance.store.sql.database import SqlConnection, SqlDatabase, SqlWords, SqlWork
from appliance.store.sql.short_deletes import Deletable, ShortDeletes, within

#: Orders that are not done yet.
MAX_OPEN: Final = 10_000
#: Rows that are looked at in one read.
_LOOK: Final = 2000

_log: Any = structlog.get_logger(__name__)


class StoredDeletions:
    """Reads, and writes in short transactions."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database
        self._words = database.words

    def ask(self, row: DeletionRow, deed: Deed) -> None:
        """Add an order, and its entry in the audit trail. Raises LimitError."""
        with self._database.writing(alone="deletions") as connection:
            query = "SELECT count(*) FROM deletions WHERE ended_at IS NULL"
            if connection.execute(query).fetchone()[0] >= MAX_OPEN:
                raise LimitError(f"{MAX_OPEN} deletions are not done yet; wait, and ask again")
            deletion_table.add(connection, row)
            audit_table.write(connection, deed)

    def cancel(self, deletion_id: str) -> None:
        """Remove an order whose mark is not in the queue."""
        with self._database.writing() as connection:
            connection.execute(
                "DELETE FROM deletions WHERE id = ? AND until_seq IS NULL", (deletion_id,)
            )

    def find(self, deletion_id: str) -> DeletionRow | None:
        """Return the deletion with this id, or None."""
        with self._database.reading() as connection:
            found = deletion_table.rows(connection, "id = ?", (deletion_id,), 1)
        return found[0] if found else None

    def newest(self, limit: int) -> list[DeletionRow]:
        """Return up to `limit` deletions, the newest first."""
        with self._database.reading() as connection:
            return deletion_table.rows(connection, "1 = 1", (), limit)

    def count(self, selection: Selection, seconds: float) -> Counted:
        """Return how many stored messages are selected; counting ends after some seconds."""
        if selection.is_whole_topic:
            query = "SELECT messages FROM topics WHERE topic = ?"
            with self._database.reading() as connection:
                row = connection.execute(query, (selection.topic,)).fetchone()
            return Counted(row[0] if row else 0, is_complete=True)
        deadline = time.monotonic() + seconds
        with self._database.reading() as connection:
            until = connection.execute(f"SELECT {self._words.last_seq}").fetchone()[0]
        counted, after = 0, 0
        while True:
            with self._database.reading() as connection:
                rows = _look(connection, self._words, selection, after, until, _LOOK)
            counted += sum(wanted for *_, wanted in rows)
            if not rows or selection.id is not None:
                return Counted(counted, is_complete=True)
            if time.monotonic() > deadline:
                return Counted(counted, is_complete=False)
            after = rows[-1][0]

    def work(self, rest: Rest) -> None:
        """Do what is to be done, until it is done or `rest` says to stop. Raises StoreError."""
        with self._database.working(rest) as work:
            deletes, did_any = ShortDeletes(self._words, rest), False
            while found := deletion_table.next_open(work):
                did_any = True
                if _Work(work, self._words, deletes, *found).run(rest):
                    return
            if did_any:
                deletes.shrink(work)


class _Work:
    """The work on one deletion, from where it was left."""

    def __init__(
        self,
        connection: SqlWork,
        words: SqlWords,
        deletes: ShortDeletes,
        row: DeletionRow,
        reached: int,
        until: int,
    ) -> None:
        self._connection = connection
        self._words = words
        self._deletes = deletes
        self._row = row
        self._reached = reached
        self._until = until

    def run(self, rest: Rest) -> bool:
        """Delete what is selected; return whether to stop."""
        began = time.monotonic()
        deletes, row = self._deletes, self._row
        deletes.begin()
        while True:
            chunk = deletes.chunk
            rows = _look(
                self._connection, self._words, row.selection, self._reached, self._until, chunk
            )
            if not rows:
                break
            if self._delete(rows, learn=len(rows) == chunk) or rest(0):
                return True
        deletes.hold(self._connection, self._end)
        _log.info(
            "messages deleted",
            messages=deletes.rows,
            bytes=deletes.bytes,
            by=row.by.name,
            deletion=row.id,
            kept=deletes.refused,
            seconds=round(time.monotonic() - began, 1),
            longest_transaction=round(deletes.longest_hold, 3),
        )
        return False

    def _delete(self, rows: Sequence[tuple[int, int, str, str, int]], *, learn: bool) -> bool:
        """Delete those of the rows that are wanted; return whether to stop."""
        topics = {seq: topic for seq, _, _, topic, _ in rows}
        wanted = [
            Deletable(seq, size, received_at)
            for seq, size, received_at, _, is_wanted in rows
            if is_wanted and received_at <= self._row.asked_at
        ]
        while wanted:
            part = within(wanted)
            wanted = wanted[len(part) :]
            seqs = [each.seq for each in part]
            if self._deletes.delete(
                self._connection, topics[seqs[0]], seqs, learn=learn, account=self._note
            ):
                return True
        self._reached = rows[-1][0]
        return False

    def _note(self, messages: int, size: int) -> None:
        """Note what is gone, and the rows before it: after a kill it goes on behind those."""
        deletion_table.advance(
            self._connection, self._row.id, self._until, self._reached, messages, size
        )

    def _end(self) -> None:
        deletion_table.end(self._connection, self._row.id, self._until, self._deletes.refused)
        if self._row.selection.is_whole_topic:
            # Its row is locked first: then no message can be stored in it that this does not see.
            self._connection.execute(
                "UPDATE topics SET messages = messages WHERE topic = ?",
                (self._row.selection.topic,),
            )
            self._connection.execute(
                "DELETE FROM topics WHERE topic = ? "
                "AND NOT EXISTS (SELECT 1 FROM messages WHERE messages.topic = topics.topic)",
                (self._row.selection.topic,),
            )


def _look(
    connection: SqlConnection,
    words: SqlWords,
    selection: Selection,
    after: int,
    until: int,
    limit: int,
) -> list[tuple[int, int, str, str, int]]:
    """Return the next rows: their seq, size, time, topic, and whether each is wanted.

    Rows that are not wanted are returned too: so a read is short however few are wanted.
    """
    values: dict[str, Any] = {"after": after, "until": until, "limit": limit}
    if selection.id is not None:
        table, where, wanted = "messages", "id = :id", []
        values["id"] = selection.id
    else:
        table, where = words.by_topic, "topic = :topic"
        values["topic"] = selection.topic
        wanted = words.conditions(selection.filter(), values)
        for name, sign in (("since", ">="), ("until", "<")):
            if bound := getattr(selection, name):
                wanted.append(f"received_at {sign} :{name}_time")
                values[f"{name}_time"] = bound
    query = (
        f"SELECT seq, {words.body_bytes}, received_at, topic, "  # noqa: S608  # ours
        f"({' AND '.join(wanted) or '1 = 1'}) IS TRUE FROM {table} "
        f"WHERE {where} AND seq > :after AND seq <= :until ORDER BY seq LIMIT :limit"
    )
    found: list[tuple[int, int, str, str, int]] = connection.execute(query, values).fetchall()
    return found
