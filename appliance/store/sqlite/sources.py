"""What the store keeps of the envelopes' numbers: which came, and which never will.

One row of `sources` for each API process. It is written in the transaction that stores the
envelopes or in one soon after, always before they are acknowledged: so it is never ahead of the
rows, and what it lacks of them the queue still has. As that keeps the order, what is missing in a
row is missing for good, however busy the appliance is.
"""

import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import orjson

from appliance.errors import StoreError
from appliance.model import ledger
from appliance.model.ledger import LedgerEntry, Ranges
from appliance.model.timestamps import now

#: Sources kept: a year of ten restarts a day. Those that miss nothing are forgotten first.
_SOURCES: Final = 4000
#: Ranges of numbers kept of one source. Beyond, the lowest gaps are closed; they stay counted.
_RANGES: Final = 1000

#: Digits of a number that is read in short: any number of ours has fewer.
_DIGITS: Final = 16
#: What `accounted` is where nothing is missing.
_STRAIGHT: Final = re.compile(r"\[\[1,(\d+)\]\]")

_SELECT: Final = "SELECT accounted, settled, not_kept, missing FROM sources WHERE source = ?"
_INSERT: Final = """
    INSERT INTO sources (source, accounted, settled, not_kept, missing, first_at, last_at)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)
"""
_UPDATE: Final = """
    UPDATE sources SET accounted = ?2, settled = ?3, not_kept = ?4, missing = ?5, last_at = ?6
    WHERE source = ?1 AND accounted = ?7 AND settled = ?8
"""
_PRUNE: Final = """
    DELETE FROM sources WHERE source IN (
        SELECT source FROM sources WHERE source <> ?1
        ORDER BY missing > 0 DESC, last_at DESC LIMIT -1 OFFSET ?2 - 1
    )
"""


_GO_ON: Final = """
    UPDATE sources SET accounted = ?, settled = ?, last_at = ?
    WHERE source = ? AND accounted = ? AND settled = ?
"""


class _Account(NamedTuple):
    """A row of `sources`, as far as it counts."""

    accounted: str
    settled: int
    not_kept: int
    missing: int


class Ledger:
    """Accounts for envelopes on a connection that writes.

    What it wrote last it remembers: as a rule nobody else writes, so the row need not be read. It
    must be made anew after a transaction that failed.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._known: dict[str, _Account] = {}
        self._straight: tuple[str, int] | None = None

    def record(self, ledgers: Sequence[tuple[str | bytes, str]]) -> int:
        """Account for what came with envelopes, within the caller's transaction.

        Each is an entry, and the time at which its envelope was received, empty for a report's.
        What is no entry is left out: it is a message all the same. Returns how many more
        envelopes are known to be missing now than before.
        """
        if self._straight is not None and self._go_on(*self._straight, ledgers):
            return 0
        by_source: dict[str, list[LedgerEntry]] = {}
        last_at = ""
        for text, received_at in ledgers:
            entry = ledger.read(text)
            if entry is not None:
                by_source.setdefault(entry.source, []).append(entry)
                last_at = received_at or last_at
        last_at = last_at or now()
        return sum(self._record(source, entries, last_at) for source, entries in by_source.items())

    def _go_on(self, source: str, number: int, ledgers: Sequence[tuple[str | bytes, str]]) -> bool:
        """Account for numbers that go straight on after `number`; whether they did.

        That is nearly always so, and with little to do a transaction is mostly this: read as the
        publisher writes them, entries cost a third.
        """
        known = self._known[source]
        begins, ends, last = f'["{source}",', ",[]]", number
        until = ""
        for text, _ in ledgers:
            if type(text) is not str or not (text.startswith(begins) and text.endswith(ends)):
                return False
            said, _, until = text[len(begins) : -len(ends)].partition(",")
            last += 1
            if said != str(last):
                return False
        settled = int(until) if until.isdecimal() and len(until) < _DIGITS else last
        if not known.settled <= settled < last:
            return False
        accounted = f"[[1,{last}]]"
        values = (accounted, settled, ledgers[-1][1], source, known.accounted, known.settled)
        if not self._connection.execute(_GO_ON, values).rowcount:
            return False
        self._known[source] = known._replace(accounted=accounted, settled=settled)
        self._straight = (source, last)
        return True

    def _record(self, source: str, entries: list[LedgerEntry], last_at: str) -> int:
        known = self._known.get(source)
        if known is not None:
            account = _after(known, entries)
            if account == known or self._update(source, known, account, last_at):
                return self._remember(source, known, account)
        row = self._connection.execute(_SELECT, (source,)).fetchone()
        if row is not None:  # this worker has just become the active one
            known = found = _Account._make(row)
            try:
                account = _after(known, entries)
            except (ValueError, TypeError, LookupError):  # somebody wrote into it
                known = _begun_anew(entries)
                account = _after(known, entries)
            self._update(source, found, account, last_at)
        else:
            known = _Account("[]", 0, 0, 0)
            account = _after(known, entries)
            self._connection.execute(_INSERT, (source, *account, last_at))
            self._connection.execute(_PRUNE, (source, _SOURCES))
        return self._remember(source, known, account)

    def _update(self, source: str, known: _Account, account: _Account, last_at: str) -> bool:
        """Write the row; whether it was as it was known to be."""
        values = (source, *account, last_at, known.accounted, known.settled)
        return bool(self._connection.execute(_UPDATE, values).rowcount)

    def _remember(self, source: str, known: _Account, account: _Account) -> int:
        if source not in self._known:
            self._known.clear()  # a new API process has taken over
        self._known[source] = account
        straight = _STRAIGHT.fullmatch(account.accounted)
        self._straight = (source, int(straight[1])) if straight else None
        return max(0, account.missing - known.missing)


def ranges(text: str) -> Ranges:
    """Return what a row's `accounted` holds. Raises StoreError where somebody wrote into it."""
    try:
        found: Ranges = [[int(first), int(last)] for first, last in orjson.loads(text)]
    except (ValueError, TypeError) as error:
        raise StoreError(f"a row of the table sources can't be read: {error}") from error
    return found


def _begun_anew(entries: list[LedgerEntry]) -> _Account:
    """Return a source of which nothing is known to be missing, for want of knowing better."""
    settled = max(entry.settled for entry in entries)
    return _Account(orjson.dumps([[1, settled]] if settled else []).decode(), settled, 0, 0)


def _after(account: _Account, entries: list[LedgerEntry]) -> _Account:
    """Return what is known of a source once these entries have come."""
    text, settled, not_kept, missing = account
    accounted: Ranges = orjson.loads(text)
    closed = missing - _gaps(accounted, settled)
    for entry in entries:
        if entry.number is not None:
            ledger.add(accounted, entry.number, entry.number)
        if entry.not_kept:
            before = ledger.count(accounted)
            for first, last in entry.not_kept:
                ledger.add(accounted, first, last)
            not_kept += ledger.count(accounted) - before
        settled = max(settled, entry.settled)
    if len(accounted) > _RANGES:
        last = accounted[-_RANGES][1]
        closed += _gaps(accounted, min(last, settled))
        ledger.add(accounted, 1, last)
    missing = closed + _gaps(accounted, settled)
    return _Account(orjson.dumps(accounted).decode(), settled, not_kept, missing)


def accept(connection: Any) -> int:
    """Count what is missing as known, so that only what goes missing from now on is told.

    Within the caller's transaction; returns how many envelopes that were.
    """
    rows = connection.execute(
        "SELECT source, accounted, settled, missing FROM sources WHERE missing > 0"
    ).fetchall()
    for source, text, settled, _ in rows:
        accounted = ranges(text)
        ledger.add(accounted, 1, settled)
        connection.execute(
            "UPDATE sources SET accounted = ?, missing = 0, accepted = accepted + missing "
            "WHERE source = ?",
            (orjson.dumps(accounted).decode(), source),
        )
    return sum(row[-1] for row in rows)


def _gaps(accounted: Ranges, settled: int) -> int:
    """Return how many numbers are missing: settled, and neither here nor said to be not kept."""
    if len(accounted) == 1 and accounted[0][0] == 1 and accounted[0][1] >= settled:
        return 0
    return ledger.count(ledger.holes(accounted, 0, settled))
