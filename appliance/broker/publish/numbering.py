"""Numbers the envelopes of this process and writes the ledger entry that each one carries."""

import secrets
from collections.abc import Iterator
from typing import Final

from appliance.model.ledger import LedgerEntry, Ranges, add, remove

#: Ranges of numbers not kept in one entry: some 1,500 characters at most. `settled` stops before
#: the next range, so that no number is taken for missing before an entry has named it.
_RANGES_PER_ENTRY: Final = 64


class Numbering:
    """Gives each envelope its number when it is first sent; `settle` records its fate."""

    def __init__(self) -> None:
        self.source = secrets.token_hex(8)
        #: Number of the latest envelope; 0 before the first.
        self.last_number = 0
        self._settled: Ranges = []
        self._not_kept: Ranges = []  # and in no entry of a confirmed envelope

    @property
    def settled(self) -> int:
        """The number up to which the fate of every envelope is known."""
        return self._settled[0][1] if self._settled and self._settled[0][0] == 1 else 0

    def next_number(self) -> int:
        """Return the next number, for an envelope that is sent now."""
        self.last_number += 1
        return self.last_number

    def carried(self, number: int) -> tuple[str, Ranges]:
        """Return the entry that the envelope of this number carries, and its `not_kept`."""
        if not self._not_kept:
            return LedgerEntry(self.source, number, self.settled, []).encode(), []
        entry = self.entry(number)
        return entry.encode(), entry.not_kept

    def entry(self, number: int | None = None) -> LedgerEntry:
        """Return the entry as it is now; without `number` it is a report's. Safe in any thread."""
        settled, not_kept = self.settled, self._not_kept[: _RANGES_PER_ENTRY + 1]
        if len(not_kept) > _RANGES_PER_ENTRY:
            settled = min(settled, not_kept.pop()[0] - 1)
        return LedgerEntry(self.source, number, settled, [list(pair) for pair in not_kept])

    def settle(self, number: int, carried: Ranges, *, kept: bool) -> None:
        """Record an envelope's fate: confirmed, with the `not_kept` that it carried; or not kept.

        Not kept is an envelope that the broker refused, and one that is given up though it may
        have arrived: nobody was answered that it was kept. Should it be in the queue after all, no
        harm is done.
        """
        if kept:
            if carried:
                self._forget(carried)
        else:
            add(self._not_kept, number, number)
        add(self._settled, number, number)  # last: another thread may look at any moment

    def final_entries(self) -> Iterator[LedgerEntry]:
        """Yield the last entries of this process, which sends no more; none if it sent none."""
        while self.last_number:
            entry = self.entry()
            yield entry
            if not entry.not_kept:
                return
            self._forget(entry.not_kept)

    def _forget(self, not_kept: Ranges) -> None:
        for first, last in not_kept:
            remove(self._not_kept, first, last)
