"""The tables of replays, read and written with an open connection."""

# ruff: noqa: S608  # the SQL is put together from texts of this module, and values are bound

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

from appliance.model import timestamps
from appliance.store.access_rows import Actor
from appliance.store.replay_rows import (
    RUNNING,
    ReplayChoice,
    ReplayRow,
    ReplaySelection,
    ReplayStanding,
    ReplayWork,
)
from appliance.store.sql.database import SqlConnection

#: Replays that are kept once they have ended; the oldest make room.
_MOST_KEPT: Final = 1000

_PLAIN: Final = (
    "id", "endpoint", "target", "state", "reason", "after", "until", "cursor", "messages", "sent",
    "gone", "created_at", "changed_at", "ended_at",
)  # fmt: skip
_WORK: Final = "id, endpoint, target, selection, cursor, until"
#: How far it has come; it is done once all of it is dealt with, stopped or not.
_STAND: Final = """
    UPDATE replays SET
        cursor = CASE WHEN :cursor > cursor THEN :cursor ELSE cursor END,
        sent = sent + :sent, gone = gone + :gone,
        state = CASE WHEN :is_done = 1 AND ended_at IS NULL THEN 'done' ELSE state END,
        ended_at = CASE WHEN :is_done = 1 AND ended_at IS NULL THEN :now ELSE ended_at END
    WHERE id = :id
"""


def add(connection: SqlConnection, row: ReplayRow, choice: ReplayChoice) -> None:
    """Add a replay of a choice; make room for it."""
    connection.execute(
        "INSERT INTO replays (id, endpoint, target, selection, state, reason, after, until, "
        "cursor, messages, created_at, changed_at, ended_at, who, address) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            row.id, row.endpoint, row.target, json.dumps(row.selection.members()), row.state,
            row.reason, row.after, row.until, row.cursor, row.messages, row.created_at,
            row.changed_at, row.ended_at, row.by.name, row.by.address,
        ),
    )  # fmt: skip
    connection.executemany(
        "INSERT INTO replay_parts (replay, last, count, packed) VALUES (?, ?, ?, ?)",
        [(row.id, *each) for each in choice.parts],
    )
    connection.execute(
        "DELETE FROM replays WHERE ended_at IS NOT NULL AND seq <= "
        "(SELECT seq FROM replays ORDER BY seq DESC LIMIT 1 OFFSET ?)",
        (_MOST_KEPT,),
    )


def rows(
    connection: SqlConnection, condition: str, values: Sequence[Any], limit: int
) -> list[ReplayRow]:
    """Return up to `limit` replays that fulfil a condition in SQL, the newest first."""
    found = connection.execute(
        f"SELECT who, address, selection, {', '.join(_PLAIN)} FROM replays WHERE {condition} "
        "ORDER BY seq DESC LIMIT ?",
        (*values, limit),
    ).fetchall()
    made = []
    for who, address, selection, *plain in found:
        counts = {}
        if plain[1] is not None:
            counts = dict(
                connection.execute(
                    "SELECT state, count(*) FROM deliveries_due WHERE replay = ? GROUP BY state",
                    (plain[0],),
                ).fetchall()
            )
        made.append(
            ReplayRow(
                by=Actor(who, address),
                selection=_selection(selection) or ReplaySelection(),
                waiting=counts.get("waiting", 0),
                given_up=counts.get("given-up", 0),
                **dict(zip(_PLAIN, plain, strict=True)),
            )
        )
    return made


def work(connection: SqlConnection, *, to_topic: bool) -> list[ReplayWork]:
    """Return the running replays to topics, or those to endpoints, the oldest first.

    One whose selection someone broke by SQL wants nothing: it has no numbers either.
    """
    found = connection.execute(
        f"SELECT {_WORK} FROM replays WHERE ended_at IS NULL AND state = ? "
        f"AND endpoint IS {'' if to_topic else 'NOT '}NULL ORDER BY seq",
        (RUNNING,),
    )
    made = []
    for replay_id, endpoint, target, text, cursor, until in found:
        selection = _selection(text)
        wanted = None if selection is None or selection.sql is not None else selection.filter()
        made.append(ReplayWork(replay_id, endpoint, target, wanted, cursor, until))
    return made


def stand(connection: SqlConnection, standings: Iterable[ReplayStanding]) -> None:
    """Note how replays to endpoints stand."""
    now = timestamps.now()
    connection.executemany(
        _STAND,
        [
            {
                "id": each.id, "cursor": each.cursor, "sent": each.sent, "gone": each.gone,
                "is_done": each.is_done, "now": now,
            }
            for each in standings
        ],
    )  # fmt: skip


def advance(
    connection: SqlConnection, replay_id: str, after: int, reached: int, sent: int, gone: int
) -> bool:
    """Note, in the transaction that copies them, which messages are copied; return whether to.

    Not where it was stopped meanwhile, or where another worker has copied them.
    """
    found = connection.execute(
        "UPDATE replays SET cursor = ?, sent = sent + ?, gone = gone + ? "
        "WHERE id = ? AND cursor = ? AND state = 'running' RETURNING until",
        (reached, sent, gone, replay_id, after),
    ).fetchone()
    if found is not None and reached >= found[0]:
        stand(connection, [ReplayStanding(replay_id, is_done=True)])
    return found is not None


def _selection(text: str) -> ReplaySelection | None:
    """Return what a replay is for; None where someone broke it by SQL."""
    try:
        selection = ReplaySelection.of(json.loads(text))
        selection.filter()
    except (ValueError, TypeError, AttributeError):
        return None
    return selection
