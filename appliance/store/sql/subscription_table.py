"""The table `subscriptions`, and the counts of each. Called within a transaction."""

import json
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from appliance.store.sql.database import SqlConnection, SqlWords
from appliance.store.sql.lag import lag
from appliance.store.subscription_rows import SubscriptionCounts, SubscriptionRow

_COLUMNS: Final = (
    "name, topics, lease_seconds, most_attempts, created_at, acknowledged, gone, redelivered"
)
#: A message whose last lease is over is dead, though nobody has written it yet.
_STATES: Final = """
    SELECT
        count(*) FILTER (WHERE state = 'leased' AND until > :now),
        count(*) FILTER (
            WHERE state = 'waiting' OR (state = 'leased' AND until <= :now AND attempt < :most)
        ),
        count(*) FILTER (
            WHERE state = 'dead' OR (state = 'leased' AND until <= :now AND attempt >= :most)
        )
    FROM leases WHERE subscription = :number
"""


class NumberedSubscription(NamedTuple):
    """A subscription, its number, and the place up to which all was handed out."""

    number: int
    cursor: int
    row: SubscriptionRow


def numbered(connection: SqlConnection, name: str) -> NumberedSubscription | None:
    """Return the subscription with this name, or None."""
    query = f"SELECT number, cursor, {_COLUMNS} FROM subscriptions WHERE name = ?"  # noqa: S608
    row = connection.execute(query, (name,)).fetchone()
    return None if row is None else NumberedSubscription(row[0], row[1], _row(row[2:]))


def rows(connection: SqlConnection) -> list[SubscriptionRow]:
    """Return all subscriptions by name."""
    query = f"SELECT {_COLUMNS} FROM subscriptions ORDER BY name"  # noqa: S608  # ours
    return [_row(row) for row in connection.execute(query)]


def add(connection: SqlConnection, row: SubscriptionRow, cursor: int) -> None:
    """Add a subscription of the messages behind `cursor`."""
    connection.execute(
        "INSERT INTO subscriptions "
        "(name, topics, lease_seconds, most_attempts, created_at, cursor) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (
            row.name, json.dumps(row.topics), row.lease_seconds, row.most_attempts,
            row.created_at, cursor,
        ),
    )  # fmt: skip


def move(connection: SqlConnection, number: int, before: int, after: int) -> bool:
    """Move the cursor; return whether it was where it was read."""
    return bool(
        connection.execute(
            "UPDATE subscriptions SET cursor = ? WHERE number = ? AND cursor = ?",
            (after, number, before),
        ).rowcount
    )


def count(
    connection: SqlConnection,
    number: int,
    *,
    acknowledged: int = 0,
    gone: int = 0,
    redelivered: int = 0,
) -> None:
    """Count messages that are acknowledged, gone before they were, or handed out once more."""
    connection.execute(
        "UPDATE subscriptions SET acknowledged = acknowledged + ?, gone = gone + ?, "
        "redelivered = redelivered + ? WHERE number = ?",
        (acknowledged, gone, redelivered, number),
    )


def counts(
    connection: SqlConnection, words: SqlWords, found: NumberedSubscription, now: int, most: int
) -> SubscriptionCounts:
    """Return how many messages are where; the lag is counted up to a bound."""
    count, _ = lag(connection, words, found.row.topics, found.cursor, most)
    states = {"number": found.number, "now": now, "most": found.row.most_attempts}
    leased, waiting, dead = connection.execute(_STATES, states).fetchone()
    return SubscriptionCounts(min(count, most), count > most, leased, waiting, dead)


def _row(values: Sequence[Any]) -> SubscriptionRow:
    name, topics, *others = values
    try:
        patterns = tuple(str(each) for each in json.loads(topics))
    except (ValueError, TypeError):  # someone broke it by SQL
        patterns = ()
    return SubscriptionRow(name, patterns, *others)
