"""Subscriptions as administrators see them, and the messages that each has given up."""

import json
import time
from collections.abc import Sequence
from typing import Any, Final

from appliance.errors import ExistsError, LimitError
from appliance.model import leases
from appliance.model.leases import Standing
from appliance.store.access_rows import Deed
from appliance.store.paging import take
from appliance.store.rows import PAGE_BYTES, Page, StoredMessage
from appliance.store.sql import audit_table, expiry, lease_table, subscription_table
from appliance.store.sql.database import SqlConnection, SqlDatabase, SqlWords
from appliance.store.sql.following import end_of
from appliance.store.sql.marks import DISORDER, last_before
from appliance.store.subscription_rows import (
    MOST_COUNTED,
    DeadMessage,
    SubscriptionCounts,
    SubscriptionRow,
)

#: Subscriptions that there can be: each is looked at while somebody waits for its messages.
MAX_SUBSCRIPTIONS: Final = 1000
#: Leases that are removed in one transaction, with the subscription that they were of.
_CHUNK: Final = 2000

_NOTHING: Final = SubscriptionCounts(0, lag_is_more=False, leased=0, waiting=0, dead=0)
#: One whose last lease is over is dead, though nobody has written it yet.
_IS_DEAD: Final = """
    subscription = :number AND (
        state = 'dead' OR (state = 'leased' AND until <= :now AND attempt >= :most)
    )
"""
_DEAD_SEQS: Final = f"SELECT seq FROM leases WHERE {_IS_DEAD}"  # noqa: S608  # ours
_DEAD: Final = f"""
    SELECT {{message}}, attempt, until, reason, state
    FROM leases JOIN messages USING (seq)
    WHERE {_IS_DEAD} AND seq > :after AND {{where}} ORDER BY seq LIMIT :limit
"""  # noqa: S608  # ours
_REMOVE_SOME: Final = f"""
    DELETE FROM leases WHERE subscription = :number AND seq IN (
        SELECT seq FROM leases WHERE subscription = :number LIMIT {_CHUNK}
    )
"""  # noqa: S608  # a number of ours


class StoredSubscriptions:
    """Writes in short transactions; of those that make or remove one, one at a time."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database
        self._words = database.words

    def all(self) -> list[SubscriptionRow]:
        """Return all subscriptions by name."""
        with self._database.reading() as connection:
            return subscription_table.rows(connection)

    def find(self, name: str) -> SubscriptionRow | None:
        """Return the subscription with this name, or None."""
        with self._database.reading() as connection:
            found = subscription_table.numbered(connection, name)
        return None if found is None else found.row

    def counts(self, name: str, most: int = MOST_COUNTED) -> SubscriptionCounts:
        """Return how many of its messages are where; nothing is there where it is gone."""
        with self._database.reading() as connection:
            found = subscription_table.numbered(connection, name)
            if found is None:
                return _NOTHING
            return subscription_table.counts(connection, self._words, found, _now(), most)

    def create(self, row: SubscriptionRow, since: str | None, deed: Deed) -> None:
        """Add a subscription; with `since`, also of what came since then. Empty: of all.

        Raises ExistsError, LimitError.
        """
        begin = 0
        if since:
            with self._database.reading() as connection:
                begin = last_before(connection, since, -DISORDER)
        with self._database.writing(alone="leases") as connection:
            query = "SELECT count(*), count(*) FILTER (WHERE name = ?) FROM subscriptions"
            count, same = connection.execute(query, (row.name,)).fetchone()
            if same:
                raise ExistsError(
                    f"there is a subscription with the name {row.name} already; remove it, or "
                    "choose another name"
                )
            if count >= MAX_SUBSCRIPTIONS:
                raise LimitError(
                    f"there are {count} subscriptions already; remove some that nobody uses"
                )
            cursor = end_of(connection, self._words) if since is None else begin
            subscription_table.add(connection, row, cursor)
            audit_table.write(connection, deed)

    def remove(self, name: str, deed: Deed) -> bool:
        """Remove a subscription with all its leases; return whether it was there.

        The leases go after it, some at a time. Those that a kill leaves behind are of no
        subscription, and go with their messages.
        """
        with self._database.writing(alone="leases") as connection:
            found = subscription_table.numbered(connection, name)
            if found is None:
                return False
            connection.execute("DELETE FROM subscriptions WHERE number = ?", (found.number,))
            audit_table.write(connection, deed)
        rows = _CHUNK
        while rows == _CHUNK:
            with self._database.writing(synced=False, alone="leases") as connection:
                rows = connection.execute(_REMOVE_SOME, {"number": found.number}).rowcount
        return True

    def dead(self, name: str, after: int, limit: int) -> Page[DeadMessage]:
        """Return messages that it has given up, behind a place, oldest first."""
        with self._database.reading() as connection:
            found = subscription_table.numbered(connection, name)
            if found is None:
                return Page([], more=False)
            values = {
                "number": found.number, "after": after, "now": _now(),
                "most": found.row.most_attempts, "limit": limit + 1,
            }  # fmt: skip
            where = " AND ".join(["1 = 1", *expiry.hides(connection, self._words)])
            query = _DEAD.format(message=self._words.message, where=where)
            return take(connection.execute(query, values), _dead_message, limit, PAGE_BYTES)

    def redrive(self, name: str, ids: Sequence[str] | None, deed: Deed) -> int:
        """Hand messages that were given up out again; return how many they were."""
        now, done = _now(), 0
        with self._database.writing(alone="leases") as connection:
            for number, seq, before, settled in _given_up(connection, self._words, name, ids, now):
                after = leases.put_back(settled, now)
                if after is not None:
                    done += lease_table.change(connection, number, seq, before, after)
            if done:
                audit_table.write(connection, deed)
        return done

    def discard(self, name: str, ids: Sequence[str] | None, deed: Deed) -> int:
        """Forget messages that were given up; return how many they were. They stay stored."""
        done = 0
        with self._database.writing(alone="leases") as connection:
            for number, seq, _, _ in _given_up(connection, self._words, name, ids, _now()):
                done += lease_table.remove(connection, self._words, number, [seq])
            if done:
                audit_table.write(connection, deed)
        return done


def _given_up(
    connection: SqlConnection, words: SqlWords, name: str, ids: Sequence[str] | None, now: int
) -> list[tuple[int, int, Standing, Standing]]:
    """Return messages that are dead: number, `seq`, how each stands, and how it stands now."""
    found = subscription_table.numbered(connection, name)
    if found is None:
        return []
    most = found.row.most_attempts
    if ids is None:
        values = {"number": found.number, "now": now, "most": most, "limit": _CHUNK}
        rows = connection.execute(f"{_DEAD_SEQS} LIMIT :limit", values)
    else:
        query = f"SELECT seq FROM messages WHERE id IN ({words.texts_of('?')})"  # noqa: S608  # ours
        rows = connection.execute(query, (json.dumps(list(ids)),))
    standings = lease_table.standings(connection, words, found.number, [row[0] for row in rows])
    settled = (
        (found.number, seq, before, leases.settle(before, now, most))
        for seq, before in standings.items()
    )
    return [each for each in settled if each[3].state == "dead"]


def _dead_message(values: Any) -> DeadMessage:
    message = StoredMessage._make(values[:8])
    attempts, until, reason, state = values[8:]
    words = reason if state == "dead" else leases.NOT_ACKNOWLEDGED
    return DeadMessage(message, attempts, until / 1000, words)


def _now() -> int:
    return time.time_ns() // 1_000_000
