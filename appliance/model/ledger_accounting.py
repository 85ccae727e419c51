"""The ledger's arithmetic: the account of a source, before and after its entries. No I/O.

The store keeps one account for each source. Its ranges are JSON text, as the engines keep them. All
of it is computed here, so that every engine counts alike.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

import orjson

from appliance.model import ledger
from appliance.model.ledger import LedgerEntry, Ranges

#: Ranges of numbers in one account. Beyond, the lowest gaps are closed; they stay counted.
_MAX_RANGES: Final = 1000
#: Digits of a number that is read without JSON: any number of ours has fewer.
_DIGITS: Final = 16
#: `accounted` of a source of which no number is missing.
_STRAIGHT: Final = re.compile(r"\[\[1,(\d+)\]\]")


class SourceAccount(NamedTuple):
    """The ledger of one source.

    Envelopes of the ranges in `accounted` are stored or not kept; numbers up to `settled` that are
    not among them are missing. `not_kept` and `missing` count envelopes.
    """

    accounted: str = "[]"
    settled: int = 0
    not_kept: int = 0
    missing: int = 0

    @property
    def straight_until(self) -> int | None:
        """The last number, where all numbers from 1 to it are accounted for; else None."""
        match = _STRAIGHT.fullmatch(self.accounted)
        return int(match[1]) if match else None


def read_ranges(text: str) -> Ranges:
    """Return the ranges in an account. Raises ValueError where another program wrote into it."""
    try:
        return [[int(first), int(last)] for first, last in orjson.loads(text)]
    except TypeError as error:
        raise ValueError(str(error)) from error


def write_ranges(ranges: Ranges) -> str:
    """Return ranges as an account holds them."""
    return orjson.dumps(ranges).decode()


def after_entries(account: SourceAccount, entries: Sequence[LedgerEntry]) -> SourceAccount:
    """Return a source's account after these entries have come.

    Raises ValueError, TypeError or LookupError where another program wrote into the account.
    """
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
    if len(accounted) > _MAX_RANGES:
        last = accounted[-_MAX_RANGES][1]
        closed += _gaps(accounted, min(last, settled))
        ledger.add(accounted, 1, last)
    missing = closed + _gaps(accounted, settled)
    return SourceAccount(write_ranges(accounted), settled, not_kept, missing)


def straight_on(
    account: SourceAccount, source: str, number: int, entries: Sequence[tuple[str | bytes, str]]
) -> tuple[SourceAccount, int] | None:
    """Return a source's account, and its last number, after entries that go straight on.

    All numbers from 1 to `number` are accounted for. `entries` are texts with their times; None is
    returned where they are any other entries, which `after_entries` takes. Entries nearly always
    go straight on, and compared as the publisher writes them they cost a third.
    """
    begins, ends, last = f'["{source}",', ",[]]", number
    until = ""
    for text, _ in entries:
        if type(text) is not str or not (text.startswith(begins) and text.endswith(ends)):
            return None
        digits, _, until = text[len(begins) : -len(ends)].partition(",")
        last += 1
        if digits != str(last):
            return None
    settled = int(until) if until.isdecimal() and len(until) < _DIGITS else last
    if not account.settled <= settled < last:
        return None
    # Not `_replace`, which takes twice as long.
    return SourceAccount(f"[[1,{last}]]", settled, account.not_kept, account.missing), last


def begun_anew(entries: Sequence[LedgerEntry]) -> SourceAccount:
    """Return an account for a source whose own one can't be read: none of it is missing."""
    settled = max(entry.settled for entry in entries)
    return SourceAccount(write_ranges([[1, settled]] if settled else []), settled)


def without_gaps(text: str, settled: int) -> str:
    """Return an account's ranges with all missing numbers among them. Raises ValueError."""
    accounted = read_ranges(text)
    ledger.add(accounted, 1, settled)
    return write_ranges(accounted)


def unaccounted(text: str, settled: int, entry: LedgerEntry) -> int:
    """Return how many numbers `entry` calls settled and kept, and the account does not have.

    Numbers up to the account's own `settled` are left out: they are counted as missing. Raises
    ValueError where another program wrote into the account.
    """
    accounted = read_ranges(text)
    for first, last in entry.not_kept:
        ledger.add(accounted, first, last)
    return ledger.count(ledger.holes(accounted, settled, entry.settled))


def _gaps(accounted: Ranges, settled: int) -> int:
    """Return how many numbers up to `settled` are missing."""
    if len(accounted) == 1 and accounted[0][0] == 1 and accounted[0][1] >= settled:
        return 0
    return ledger.count(ledger.holes(accounted, 0, settled))
