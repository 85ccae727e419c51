"""The table `deletions`: orders to delete messages, and how far each has come."""

import json
from collections.abc import Sequence
from typing import Any, Final

from appliance.model import timestamps
from appliance.store.access_rows import Actor
from appliance.store.deletion_rows import DONE, QUEUED, UNDER_WAY, DeletionRow, Selection
from appliance.store.sql.database import SqlConnection

#: Deletions that are kept once they are done; the oldest make room.
_MOST_KEPT: Final = 1000

_COLUMNS: Final = (
    "id, until_seq, selection, asked_at, who, address, messages, bytes, kept, ended_at"
)


def add(connection: SqlConnection, row: DeletionRow) -> None:
    """Add an order whose mark is not in the queue yet; make room for it."""
    connection.execute(
        "INSERT INTO deletions (id, selection, asked_at, who, address) VALUES (?, ?, ?, ?, ?)",
        (row.id, json.dumps(row.selection.members()), row.asked_at, row.by.name, row.by.address),
    )
    connection.execute(
        "DELETE FROM deletions WHERE ended_at IS NOT NULL AND seq <= "
        "(SELECT seq FROM deletions ORDER BY seq DESC LIMIT 1 OFFSET ?)",
        (_MOST_KEPT,),
    )


def place(connection: SqlConnection, deletion_id: str) -> None:
    """Note that its mark came: what was sent before it is stored, up to the present last row.

    A mark that comes again was not acknowledged, and so were perhaps messages before it, which were
    stored again if their rows were deleted: then it is all done again.
    """
    connection.execute(
        "UPDATE deletions SET until_seq = (SELECT coalesce(max(seq), 0) FROM messages), "
        "reached = 0, ended_at = NULL WHERE id = ?",
        (deletion_id,),
    )


def advance(
    connection: SqlConnection, deletion_id: str, until: int, reached: int, messages: int, size: int
) -> None:
    """Note, in the transaction that deletes them, how many are gone.

    All rows up to `reached` were looked at before, unless the mark has come again meanwhile.
    """
    connection.execute(
        "UPDATE deletions SET reached = CASE until_seq WHEN ? THEN ? ELSE reached END, "
        "messages = messages + ?, bytes = bytes + ? WHERE id = ?",
        (until, reached, messages, size, deletion_id),
    )


def end(connection: SqlConnection, deletion_id: str, until: int, kept: int) -> None:
    """Note that it is done, unless its mark has come again meanwhile."""
    connection.execute(
        "UPDATE deletions SET ended_at = ?, kept = ? WHERE id = ? AND until_seq = ?",
        (timestamps.now(), kept, deletion_id, until),
    )


def rows(
    connection: SqlConnection, condition: str, values: Sequence[Any], limit: int
) -> list[DeletionRow]:
    """Return up to `limit` deletions that fulfil a condition in SQL, the newest first."""
    query = f"SELECT {_COLUMNS} FROM deletions WHERE {condition} ORDER BY seq DESC LIMIT ?"  # noqa: S608  # ours
    return [_row(row) for row in connection.execute(query, (*values, limit))]


def next_open(connection: SqlConnection) -> tuple[DeletionRow, int, int] | None:
    """Return the oldest one that can be worked on, how far it came, and where it ends."""
    query = (
        f"SELECT reached, {_COLUMNS} FROM deletions "  # noqa: S608  # ours
        "WHERE ended_at IS NULL AND until_seq IS NOT NULL ORDER BY seq LIMIT 1"
    )
    row = connection.execute(query).fetchone()
    return None if row is None else (_row(row[1:]), row[0], row[2])


def _row(row: Sequence[Any]) -> DeletionRow:
    name, until, selection, asked_at, who, address, messages, size, kept, ended_at = row
    status = DONE if ended_at is not None else QUEUED if until is None else UNDER_WAY
    return DeletionRow(
        name, status, _selection(selection), asked_at, Actor(who, address), messages, size, kept,
        ended_at,
    )  # fmt: skip


def _selection(text: str) -> Selection:
    """Return what an order says; nothing where someone broke it by SQL."""
    try:
        selection = Selection.of(json.loads(text))
        selection.filter()
    except (ValueError, TypeError, AttributeError):
        return Selection()
    return selection
