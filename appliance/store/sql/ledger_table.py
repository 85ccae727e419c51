"""The ledger in the table `sources`: which envelopes of each API process came, and which did not.

The table has one row for each API process. A row is written in the transaction that stores the
envelopes or in a later one, but always before they are acknowledged: so it is never ahead of the
messages, and the queue still has the envelopes that it lacks. Because the queue keeps the order, an
envelope that is missing in a row is missing for good, however busy the appliance is.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final

from appliance.errors import StoreError
from appliance.model import ledger, ledger_accounting
from appliance.model.ledger import LedgerEntry, Ranges
from appliance.model.ledger_accounting import SourceAccount
from appliance.model.timestamps import now

#: Sources kept: a year of ten restarts a day. Those that miss nothing are forgotten first.
_SOURCES: Final = 4000
#: Sources whose rows are remembered. Each API process that runs is one; a row that was forgotten
#: is read again.
_REMEMBERED: Final = 64

_SELECT: Final = "SELECT accounted, settled, not_kept, missing FROM sources WHERE source = ?"
_INSERT: Final = """
    INSERT INTO sources (source, accounted, settled, not_kept, missing, first_at, last_at)
    VALUES (?, ?, ?, ?, ?, ?, ?)
"""
_UPDATE: Final = """
    UPDATE sources SET accounted = ?, settled = ?, not_kept = ?, missing = ?, last_at = ?
    WHERE source = ? AND accounted = ? AND settled = ?
"""
_GO_ON: Final = """
    UPDATE sources SET accounted = ?, settled = ?, last_at = ?
    WHERE source = ? AND accounted = ? AND settled = ?
"""
_PRUNE: Final = """
    DELETE FROM sources WHERE source IN (
        SELECT source FROM sources WHERE source <> ?
        ORDER BY missing > 0 DESC, last_at DESC LIMIT 1000000 OFFSET ?
    )
"""
#: What the worker needs of the table, for a check whether it can be compiled.
STATEMENTS: Final = (_SELECT, _INSERT, _UPDATE, _GO_ON, _PRUNE)
#: Where an entry's source stands in its text, as the publisher writes it.
_SOURCE: Final = slice(2, 18)


class LedgerTable:
    """Writes ledger entries on the connection that stores envelopes.

    It remembers the rows that it wrote last: as a rule no other process writes them, so that they
    need not be read. Make a new one after a transaction that failed.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        #: source -> its row as it was written last, and that row's `straight_until`
        self._rows: OrderedDict[str, tuple[SourceAccount, int | None]] = OrderedDict()

    def record(self, entries: Sequence[tuple[str | bytes, str]]) -> int:
        """Account for the entries that came with envelopes, within the caller's transaction.

        Each is an entry's text, and the time at which its envelope was received (empty for the
        report of a process that ends). A text that is no entry is left out: its message is stored
        all the same. Returns how many more envelopes are known to be missing than before.
        """
        text = entries[0][0]
        if type(text) is str and self._go_on(text[_SOURCE], entries):
            return 0
        by_source: dict[str, list[LedgerEntry]] = {}
        last_at = ""
        for text, received_at in entries:
            entry = ledger.read(text)
            if entry is not None:
                by_source.setdefault(entry.source, []).append(entry)
                last_at = received_at or last_at
        last_at = last_at or now()
        return sum(self._record(source, of_it, last_at) for source, of_it in by_source.items())

    def _go_on(self, source: str, entries: Sequence[tuple[str | bytes, str]]) -> bool:
        """Account for numbers of one source that go straight on; return whether they do."""
        before, number = self._rows.get(source, (None, None))
        if before is None or number is None:
            return False
        following = ledger_accounting.straight_on(before, source, number, entries)
        if following is None:
            return False
        account, _ = following
        last_at = entries[-1][1]
        values = (account.accounted, account.settled, last_at, source)
        if not self._connection.execute(
            _GO_ON, (*values, before.accounted, before.settled)
        ).rowcount:
            return False
        self._rows[source] = following
        self._rows.move_to_end(source)
        return True

    def _record(self, source: str, entries: list[LedgerEntry], last_at: str) -> int:
        before, _ = self._rows.get(source, (None, None))
        if before is not None:
            account = ledger_accounting.after_entries(before, entries)
            if account == before or self._update(source, before, account, last_at):
                return self._remember(source, before, account)
        row = self._connection.execute(_SELECT, (source,)).fetchone()
        if row is not None:  # another worker was the active one until now
            before = in_table = SourceAccount._make(row)
            try:
                account = ledger_accounting.after_entries(before, entries)
            except (ValueError, TypeError, LookupError):  # another program wrote into it
                before = ledger_accounting.begun_anew(entries)
                account = ledger_accounting.after_entries(before, entries)
            self._update(source, in_table, account, last_at)
        else:
            before = SourceAccount()
            account = ledger_accounting.after_entries(before, entries)
            self._connection.execute(_INSERT, (source, *account, last_at, last_at))
            self._connection.execute(_PRUNE, (source, _SOURCES - 1))
        return self._remember(source, before, account)

    def _update(
        self, source: str, before: SourceAccount, account: SourceAccount, last_at: str
    ) -> bool:
        """Write the row; return whether it was still as `before`."""
        values = (*account, last_at, source, before.accounted, before.settled)
        return bool(self._connection.execute(_UPDATE, values).rowcount)

    def _remember(self, source: str, before: SourceAccount, account: SourceAccount) -> int:
        self._rows[source] = (account, account.straight_until)
        self._rows.move_to_end(source)
        if len(self._rows) > _REMEMBERED:
            self._rows.popitem(last=False)
        return max(0, account.missing - before.missing)


def ranges(text: str) -> Ranges:
    """Return the ranges of a row. Raises StoreError where another program wrote into it."""
    try:
        return ledger_accounting.read_ranges(text)
    except ValueError as error:
        raise _unreadable(error) from error


def unaccounted(connection: Any, entry: LedgerEntry) -> int:
    """Return how many envelopes a source calls settled and kept that are not stored yet.

    Envelopes that the table counts as missing are left out. Raises StoreError where another program
    wrote into the row.
    """
    row = connection.execute(_SELECT, (entry.source,)).fetchone()
    account = SourceAccount._make(row) if row else SourceAccount()
    try:
        return ledger_accounting.unaccounted(account.accounted, account.settled, entry)
    except ValueError as error:
        raise _unreadable(error) from error


def accept_missing(connection: Any) -> int:
    """Count the missing envelopes as known, so that only new losses are reported.

    Within the caller's transaction; returns how many they were. Raises StoreError where another
    program wrote into a row.
    """
    rows = connection.execute(
        "SELECT source, accounted, settled, missing FROM sources WHERE missing > 0"
    ).fetchall()
    for source, text, settled, _ in rows:
        try:
            accounted = ledger_accounting.without_gaps(text, settled)
        except ValueError as error:
            raise _unreadable(error) from error
        connection.execute(
            "UPDATE sources SET accounted = ?, missing = 0, accepted = accepted + missing "
            "WHERE source = ?",
            (accounted, source),
        )
    return sum(row[-1] for row in rows)


def _unreadable(error: Exception) -> StoreError:
    return StoreError(f"a row of the table sources can't be read: {error}")
