"""Number the envelopes of this process, and tell the store which of them it need not wait for."""

import secrets
from collections.abc import Iterator
from typing import Final, NamedTuple

from appliance.model.ledger import Entry, Ranges, add, remove

#: Ranges of numbers not kept that one envelope tells of: some 1,500 characters at most. `settled`
#: stops before the next one, so that no number is taken for missing before its turn has come.
_TOLD_AT_ONCE: Final = 64


class Told(NamedTuple):
    """What travels with an envelope (`text`), and the numbers it says are not kept."""

    text: str
    not_kept: Ranges


class Numbering:
    """Gives each envelope its number when it is first sent; `settle` says what became of it."""

    def __init__(self) -> None:
        self.source = secrets.token_hex(8)
        self.given = 0
        self._begins = f'["{self.source}",'
        self._settled: Ranges = []
        self._not_kept: Ranges = []  # and nobody is known to have been told of

    @property
    def settled(self) -> int:
        """The number up to which the fate of every envelope is known."""
        return self._settled[0][1] if self._settled and self._settled[0][0] == 1 else 0

    def give(self) -> int:
        """Return the next number, for an envelope that is sent now."""
        self.given += 1
        return self.given

    def tell(self, number: int) -> Told:
        """Return what goes with the envelope of this number."""
        if not self._not_kept:  # as `Entry` would write it, at a fifth of the cost
            return Told(f"{self._begins}{number},{self.settled},[]]", [])
        entry = self.entry(number)
        return Told(entry.encode(), entry.not_kept)

    def entry(self, number: int | None = None) -> Entry:
        """Return what is to be told now. Safe in any thread."""
        settled, not_kept = self.settled, self._not_kept[: _TOLD_AT_ONCE + 1]
        if len(not_kept) > _TOLD_AT_ONCE:
            settled = min(settled, not_kept.pop()[0] - 1)
        return Entry(self.source, number, settled, [list(pair) for pair in not_kept])

    def settle(self, number: int, told: Ranges, *, kept: bool) -> None:
        """Record an envelope's fate: confirmed, and so what it told is known; or not kept.

        "Not kept" is what the broker refused, and what is given up though it may have arrived:
        nobody was answered that it was kept. Should it be in the queue after all, no harm is done.
        """
        if kept:
            if told:
                self._forget(told)
        else:
            add(self._not_kept, number, number)
        add(self._settled, number, number)  # last: another thread may look at any moment

    def last_words(self) -> Iterator[str]:
        """Yield all that is to be told, when nothing more is sent; nothing if nothing was."""
        while self.given:
            entry = self.entry()
            yield entry.encode()
            if not entry.not_kept:
                return
            self._forget(entry.not_kept)

    def _forget(self, told: Ranges) -> None:
        for first, last in told:
            remove(self._not_kept, first, last)
