"""Hands out messages of subscriptions under leases, and takes acknowledgements.

What can be handed out is looked for in a read, without holding the writer. The transaction that
follows only changes what still stands as it was read: another process of the API may have been
quicker. The rows of messages that are handed out for the first time and the move of the cursor past
them are one transaction, so that none is skipped whenever a process ends.

These transactions are not synced. They are in the write-ahead log, SQLite's or PostgreSQL's, behind
the messages that they speak of, and before whatever the worker commits next and syncs: a power cut
takes a last part of the log, never one from its middle. What it takes here is that messages were
handed out or acknowledged, and so they come again, as is promised. The worker's own commits wait
for nothing more than they did.
"""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from appliance.model import leases
from appliance.model.leases import Standing
from appliance.store.rows import Followed, StoredMessage
from appliance.store.sql import expiry, lease_table, subscription_table
from appliance.store.sql.database import SqlConnection, SqlDatabase, SqlWords
from appliance.store.sql.following import end_of, stretch
from appliance.store.sql.subscription_table import NumberedSubscription
from appliance.store.subscription_rows import (
    MAX_UNFINISHED,
    HandedOut,
    NotServed,
    PullOrder,
    PullOutcome,
    Receive,
    Received,
    Settled,
    Settlement,
)

#: Messages that come back and are looked at in one go.
_MOST_DUE: Final = 1000
#: Bytes of bodies that one receive gets; one message at least, whatever its size.
RECEIVE_BYTES: Final = 2**20
#: Bytes of bodies after which further receives of the same transaction must come again.
_BYTES_AT_ONCE: Final = 4 * 2**20
#: Rows by which the cursor can be behind what was looked through and has nothing in it: a topic
#: that is rare costs no write for each look.
_LAZY_ROWS: Final = 5000


@dataclass
class _View:
    """A subscription as it was read, and what is to be changed of it."""

    number: int
    found: NumberedSubscription
    place: int  # messages are looked for behind it
    end: int
    room: int  # for messages that were never handed out
    due: deque[tuple[int, Standing]]
    next_due: int | None
    #: Messages that come back: how each stood, and stands now; those that are gone.
    again: list[tuple[int, Standing, Standing]] = field(default_factory=list)
    gone: list[int] = field(default_factory=list)
    fresh: list[tuple[int, Standing]] = field(default_factory=list)
    lost: set[int] = field(default_factory=set)  # another process was quicker with these
    is_late: bool = False  # another process has moved the cursor

    @property
    def changes(self) -> bool:
        """Whether there is something to write."""
        moved = self.place - self.found.cursor
        return bool(self.again or self.gone or self.fresh) or moved >= _LAZY_ROWS


class StoredPuller:
    """Writes in short transactions, one at a time for all processes; used by one thread."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database
        self._words = database.words
        #: Up to where nothing is left to be handed out, by number: it can be ahead of the cursor.
        self._reached: dict[int, int] = {}

    def serve(self, orders: Sequence[PullOrder]) -> list[PullOutcome]:
        """Serve all orders in one transaction, or none where nothing is changed."""
        now = time.time_ns() // 1_000_000
        outcomes: list[PullOutcome] = []
        views: dict[str, _View | None] = {}
        settling: list[tuple[int, _View, Settlement]] = []
        size = 0
        with self._database.snapshot() as connection:
            for order in orders:
                if order.subscription not in views:
                    views[order.subscription] = self._view(connection, order.subscription, now)
                view = views[order.subscription]
                if view is None:
                    outcomes.append(NotServed("unknown"))
                elif not leases.covers(order.patterns, view.found.row.topics):
                    outcomes.append(NotServed("forbidden"))
                elif isinstance(order, Settlement):
                    settling.append((len(outcomes), view, order))
                    outcomes.append(Settled(0, []))
                elif size >= _BYTES_AT_ONCE:
                    outcomes.append(Received([], is_partial=True))
                else:
                    received = _look(connection, self._words, view, order, now)
                    size += sum(len(each.message.body) for each in received.messages)
                    outcomes.append(received)
        there = [view for view in views.values() if view is not None]
        if settling or any(view.changes for view in there):
            self._write(there, settling, outcomes, now)
        for view in there:
            if not view.is_late:
                self._reached[view.number] = view.place
        return [
            _without_lost(outcome, views[order.subscription])
            for order, outcome in zip(orders, outcomes, strict=True)
        ]

    def version(self) -> int:
        """Return a number that is another one after another connection's commit."""
        with self._database.reading() as connection:
            return int(connection.execute(self._words.data_version).fetchone()[0])

    def _view(self, connection: SqlConnection, name: str, now: int) -> _View | None:
        found = subscription_table.numbered(connection, name)
        if found is None:
            return None
        end, place = end_of(connection, self._words), found.cursor
        if place < self._reached.get(found.number, 0) <= end:
            place = self._reached[found.number]
        return _View(
            found.number,
            found,
            place,
            max(end, place),
            MAX_UNFINISHED - lease_table.unfinished(connection, found.number),
            deque(lease_table.due(connection, found.number, now, _MOST_DUE)),
            lease_table.next_due(connection, found.number, now),
        )

    def _write(
        self,
        views: list[_View],
        settling: list[tuple[int, _View, Settlement]],
        outcomes: list[PullOutcome],
        now: int,
    ) -> None:
        with self._database.writing(synced=False, alone="leases") as connection:
            for view in views:
                _write_view(connection, self._words, view)
            for place, view, order in settling:
                outcomes[place] = _settle(connection, self._words, view, order, now)


def _look(
    connection: SqlConnection, words: SqlWords, view: _View, order: Receive, now: int
) -> Received:
    """Choose the messages of a receive, first those that come back."""
    seconds = order.seconds or view.found.row.lease_seconds
    most = view.found.row.most_attempts
    chosen: list[HandedOut] = []
    size = 0
    while view.due and len(chosen) < order.limit:
        seq, before = view.due[0]
        message = _message(connection, words, seq)
        settled = leases.settle(before, now, most)
        if message is None:
            view.gone.append(seq)
        elif settled.state == "dead":
            view.again.append((seq, before, settled))
        else:
            size += len(message.body)
            if chosen and size > RECEIVE_BYTES:
                return Received(chosen)
            lease = leases.new_lease_id(seq)
            granted = leases.grant(settled, now, seconds, lease)
            if granted is not None:
                view.again.append((seq, before, granted))
                chosen.append(HandedOut(message, granted.attempt, lease, granted.until))
        view.due.popleft()
    limit = min(order.limit - len(chosen), view.room)
    if limit <= 0 or size >= RECEIVE_BYTES or view.place >= view.end:
        return Received(chosen, view.next_due)
    followed = _followed(view.found.row.topics)
    part = stretch(connection, words, followed, view.place, view.end, limit, RECEIVE_BYTES - size)
    view.place = part.end
    view.room -= len(part.rows)
    for message in part.rows:
        lease = leases.new_lease_id(message.seq)
        granted = leases.grant(leases.NEW, now, seconds, lease)
        if granted is not None:
            view.fresh.append((message.seq, granted))
            chosen.append(HandedOut(message, granted.attempt, lease, granted.until))
    return Received(chosen, view.next_due, is_partial=view.place < view.end)


def _write_view(connection: SqlConnection, words: SqlWords, view: _View) -> None:
    """Write what was chosen and still stands as it was read; the rest is lost to another."""
    number = view.number
    redelivered = 0
    for seq, before, after in view.again:
        if not lease_table.change(connection, number, seq, before, after):
            view.lost.add(seq)
        elif after.state == "leased":
            redelivered += 1
    gone = lease_table.remove(connection, words, number, view.gone) if view.gone else 0
    if gone or redelivered:
        subscription_table.count(connection, number, gone=gone, redelivered=redelivered)
    if view.place > view.found.cursor:
        if subscription_table.move(connection, number, view.found.cursor, view.place):
            lease_table.add(connection, number, view.fresh)
        else:
            view.lost.update(seq for seq, _ in view.fresh)
            view.is_late = True


def _settle(
    connection: SqlConnection, words: SqlWords, view: _View, order: Settlement, now: int
) -> Settled:
    """Do what a consumer says, for the leases that still count."""
    wanted = {lease: seq for lease in order.leases if (seq := leases.seq_of(lease)) is not None}
    standings = lease_table.standings(connection, words, view.number, list(wanted.values()))
    most = view.found.row.most_attempts
    done: set[str] = set()
    ended: list[int] = []
    for lease, seq in wanted.items():
        before = standings.get(seq)
        settled = None if before is None else leases.settle(before, now, most)
        if before is None or settled is None or not leases.may_acknowledge(settled, lease):
            continue
        if order.action == "ack":
            ended.append(seq)
        else:
            if order.action == "nack":
                after = leases.refuse(settled, now, order.seconds, order.reason, most)
            elif (extended := leases.extend(settled, now, order.seconds, lease)) is not None:
                after = extended
            else:
                continue
            lease_table.change(connection, view.number, seq, before, after)
        done.add(lease)
    if ended:
        lease_table.remove(connection, words, view.number, ended)
        subscription_table.count(connection, view.number, acknowledged=len(ended))
    unknown = [lease for lease in order.leases if lease not in done]
    return Settled(len(done), unknown, now + order.seconds * 1000)


def _without_lost(outcome: PullOutcome, view: _View | None) -> PullOutcome:
    if view is None or not view.lost or not isinstance(outcome, Received):
        return outcome
    kept = [each for each in outcome.messages if each.message.seq not in view.lost]
    return Received(kept, outcome.due, is_partial=True)


def _followed(topics: tuple[str, ...]) -> Followed:
    if "*" in topics:
        return Followed()
    if len(topics) == 1 and "*" not in topics[0]:
        return Followed(topics[0])
    return Followed(None, (topics,))


def _message(connection: SqlConnection, words: SqlWords, seq: int) -> StoredMessage | None:
    where = " AND ".join(["seq = ?", *expiry.hides(connection, words)])
    query = f"SELECT {words.message} FROM messages WHERE {where}"  # noqa: S608  # ours
    row = connection.execute(query, (seq,)).fetchone()
    return None if row is None else StoredMessage._make(row)
