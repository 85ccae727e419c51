"""The table `leases`: how each unfinished message of a subscription stands. In a transaction."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

from appliance.model.leases import Standing
from appliance.store.sql.database import SqlConnection, SqlWords
from appliance.store.subscription_rows import MAX_UNFINISHED

_COLUMNS: Final = "state, attempt, until, lease, reason"
_DUE: Final = f"""
    SELECT seq, {_COLUMNS} FROM leases
    WHERE subscription = :number AND state = :state AND until <= :now
    ORDER BY until LIMIT :most
"""  # noqa: S608  # ours
_NEXT: Final = """
    SELECT min(until) FROM leases WHERE subscription = ? AND state = ? AND until > ?
"""
_UNFINISHED: Final = f"""
    SELECT count(*) FROM (
        SELECT 1 FROM leases WHERE subscription = ? AND state IN ('leased', 'waiting')
        LIMIT {MAX_UNFINISHED}
    ) AS unfinished
"""  # noqa: S608  # a number of ours
_CHANGE: Final = """
    UPDATE leases SET state = ?, attempt = ?, until = ?, lease = ?, reason = ?
    WHERE seq = ? AND subscription = ? AND state = ? AND attempt = ? AND until = ? AND lease = ?
"""


def due(connection: SqlConnection, number: int, now: int, most: int) -> list[tuple[int, Standing]]:
    """Return messages whose lease is over, or that have waited long enough, longest ago first."""
    rows: list[tuple[Any, ...]] = []
    for state in ("leased", "waiting"):
        values = {"number": number, "state": state, "now": now, "most": most}
        rows += connection.execute(_DUE, values).fetchall()
    rows.sort(key=lambda row: row[3])
    return [(row[0], Standing(*row[1:])) for row in rows[:most]]


def next_due(connection: SqlConnection, number: int, now: int) -> int | None:
    """Return when the next message comes back by itself; None: none does."""
    moments = [
        connection.execute(_NEXT, (number, state, now)).fetchone()[0]
        for state in ("leased", "waiting")
    ]
    return min((moment for moment in moments if moment is not None), default=None)


def unfinished(connection: SqlConnection, number: int) -> int:
    """Return how many messages are leased or wait, MAX_UNFINISHED at most."""
    return int(connection.execute(_UNFINISHED, (number,)).fetchone()[0])


def standings(
    connection: SqlConnection, words: SqlWords, number: int, seqs: Sequence[int]
) -> dict[int, Standing]:
    """Return how these messages stand, by `seq`; those that nobody has are left out."""
    rows = connection.execute(
        f"SELECT seq, {_COLUMNS} FROM leases "  # noqa: S608  # ours
        f"WHERE subscription = ? AND seq IN ({words.numbers_of('?')})",
        (number, json.dumps(list(seqs))),
    )
    return {row[0]: Standing(*row[1:]) for row in rows}


def add(connection: SqlConnection, number: int, rows: Iterable[tuple[int, Standing]]) -> None:
    """Add messages that were never handed out before."""
    connection.executemany(
        f"INSERT INTO leases (seq, subscription, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
        [(seq, number, *standing) for seq, standing in rows],
    )


def change(
    connection: SqlConnection, number: int, seq: int, before: Standing, after: Standing
) -> bool:
    """Let a message stand otherwise; return whether it still stood as before."""
    values = (*after, seq, number, before.state, before.attempt, before.until, before.lease)
    return bool(connection.execute(_CHANGE, values).rowcount)


def remove(connection: SqlConnection, words: SqlWords, number: int, seqs: Sequence[int]) -> int:
    """Remove the rows of these messages; return how many there were."""
    return int(
        connection.execute(
            "DELETE FROM leases WHERE subscription = ? "  # noqa: S608  # ours
            f"AND seq IN ({words.numbers_of('?')})",
            (number, json.dumps(list(seqs))),
        ).rowcount
    )
