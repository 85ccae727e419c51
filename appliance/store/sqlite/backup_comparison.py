"""Compares a restored backup with the present database: the rows, the dead letters, the ledger.

A `seq` is the order of storing, and no number is used again. So whatever the present database has
up to the backup's last `seq` must be in the backup; what was deleted since is no fault. The ledger
of a source only ever grows: what the backup has of it must be in the present one.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from appliance.errors import StoreError
from appliance.model import ledger
from appliance.store.sql import ledger_table

#: Rows that are compared in one read, so that no read keeps the write-ahead log from being emptied.
_ROWS: Final = 500
#: Sources whose faults are told.
_MOST_NAMED: Final = 5

_LAST: Final = "SELECT coalesce(max(seq), 0) FROM main.sqlite_sequence WHERE name = ?"
#: How many rows are there, the last one's number, how many are missing in the backup, how many
#: differ, and the first of those that are not as they should be.
_PAGE: Final = """
    SELECT count(*), max(p.seq), total(c.seq IS NULL), total(c.seq IS NOT NULL AND ({differs})),
        min(CASE WHEN c.seq IS NULL OR {differs} THEN p.seq END)
    FROM (
        SELECT * FROM present.{table} WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?
    ) AS p LEFT JOIN main.{table} AS c ON c.seq = p.seq
"""
_ONE: Final = "SELECT id, topic FROM present.{table} WHERE seq = ?"
_SOURCES: Final = """
    SELECT c.source, c.accounted, c.settled, c.missing + c.accepted,
        p.accounted, p.settled, p.missing + p.accepted
    FROM main.sources AS c JOIN present.sources AS p ON p.source = c.source ORDER BY c.source
"""
#: Columns that never change once a row is stored.
_SAME: Final = {
    "messages": ("id", "topic", "body", "received_at", "content_type", "meta"),
    "dead_letters": ("id", "topic", "body", "reason", "received_at"),
    "delayed_messages": ("id", "topic", "body", "content_type", "meta", "accepted_at", "due_at"),
    "handler_messages": ("id", "topic", "body", "received_at", "content_type", "meta"),
}
#: Rows of the present database that have changed for a reason.
_LEFT_OUT: Final = {"delayed_messages": "p.cancelled_at IS NOT NULL"}
_NAMES: Final = {
    "messages": "message",
    "dead_letters": "dead letter",
    "delayed_messages": "delayed message",
    "handler_messages": "message that waits for its handler",
}


@dataclass
class BackupComparison:
    """What the comparison found; `messages` counts those that were looked for."""

    messages: int = 0
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def compare(link: Any, rest: Callable[[float | None], None]) -> BackupComparison:
    """Compare the backup, `main` of the connection, with the database that is attached.

    `rest` is called between short reads with the share that is done; it may raise to end the
    comparison. Raises sqlite3.Error where either can't be read.
    """
    found = BackupComparison()
    found.messages = _compare_rows(link, "messages", found.faults, rest)
    for table in ("dead_letters", "delayed_messages", "handler_messages"):
        _compare_rows(link, table, found.faults, lambda _share: rest(None))
    _compare_sources(link, found)
    return found


def _compare_rows(
    link: Any, table: str, faults: list[str], rest: Callable[[float | None], None]
) -> int:
    last = link.execute(_LAST, (table,)).fetchone()[0]
    differs = " OR ".join(f"c.{name} IS NOT p.{name}" for name in _SAME[table])
    if table in _LEFT_OUT:
        differs = f"NOT ({_LEFT_OUT[table]}) AND ({differs})"
    page = _PAGE.format(table=table, differs=differs)
    place = compared = lacking = different = 0
    first: int | None = None
    while place < last:
        count, until, absent, changed, wrong = link.execute(page, (place, last, _ROWS)).fetchone()
        if not count:
            break
        place, compared = until, compared + count
        lacking, different = lacking + int(absent), different + int(changed)
        first = wrong if first is None else first
        rest(place / last)
    if first is not None:
        row = link.execute(
            _ONE.format(table=table), (first,)
        ).fetchone()  # it may be deleted by now
        named = f", the first one {row[0]} of the topic {row[1]}" if row else ""
        name = _NAMES[table]
        for total, words in ((lacking, "are not in the backup"), (different, "differ in it")):
            if total:
                faults.append(
                    f"{name}s that were stored before the backup was made and {words}: "
                    f"{total:,}{named}"
                )
    return compared


def _compare_sources(link: Any, found: BackupComparison) -> None:
    """Compare the ledgers.

    A number that only the backup has is of another database. One that the backup counts as missing,
    and the present ledger has, came late: the dead letters of the broker take a longer way.
    """
    faults, late = [], 0
    for source, text, settled, lost, present_text, present_settled, present_lost in link.execute(
        _SOURCES
    ):
        try:
            accounted = ledger_table.ranges(text)
            present = ledger_table.ranges(present_text)
        except StoreError as error:
            faults.append(f"the ledger of the source {source}: {error}")
            continue
        gaps = ledger.count(ledger.holes(accounted, 0, settled))
        if settled > present_settled or any(
            ledger.holes(present, first - 1, until) for first, until in accounted
        ):
            last = max(settled, accounted[-1][1] if accounted else 0)
            faults.append(
                f"the ledger of the source {source} goes to number {last:,} in the backup, and the "
                "present one has not all of them: it is not a backup of this database"
            )
        elif gaps > lost:
            faults.append(
                f"the ledger of the source {source} lacks {gaps - lost:,} envelopes that were "
                "stored before the backup was made"
            )
        late += max(0, lost - present_lost)
    found.faults += faults[:_MOST_NAMED]
    if late:
        found.notes.append(
            f"envelopes that came after the backup counted them as missing: {late:,}"
        )
