"""The ledger: numbers of envelopes, by which the store can see that one is missing. No I/O.

Each API process is a *source* with a random name, and numbers the envelopes that it sends: 1, 2, 3
and so on. Each envelope carries a ledger entry, which says up to which number all are *settled*:
each of them was confirmed by the broker, or is *not kept*, which an entry says too (the broker
refused it, or nobody was promised anything and it is not sent again). The queue keeps the order; so
when an envelope is stored, each number up to the settled one has come before it or never will. A
number that did neither is missing.

Ranges of numbers are `[[first, last], ...]`: ascending, not touching, both ends included.
"""

import re
from bisect import bisect_left
from dataclasses import dataclass
from typing import Any, Final

import orjson

#: `[[first, last], ...]`
Ranges = list[list[int]]

#: Most characters of an entry: room for the ranges that one can hold, and no more.
_LONGEST: Final = 8192
#: SQLite, JSON and AMQP hold it, all three.
_LARGEST: Final = 2**53
_SOURCE: Final = re.compile(r"[0-9a-f]{16}", re.ASCII)


@dataclass(slots=True)  # frozen, it would take three times as long to make
class LedgerEntry:
    """A source's entry: carried by the envelope `number`, or reported at its end (None).

    All numbers up to `settled` are confirmed or in some entry's `not_kept`.
    """

    source: str
    number: int | None
    settled: int
    not_kept: Ranges

    def encode(self) -> str:
        """Return the entry as it travels: a JSON array of the four."""
        return orjson.dumps([self.source, self.number, self.settled, self.not_kept]).decode()


def read(text: str | bytes) -> LedgerEntry | None:
    """Return the entry that `encode` wrote; None where it is not one: a message is worth more."""
    if len(text) > _LONGEST:
        return None
    try:
        source, number, settled, not_kept = orjson.loads(text)
        if (
            _SOURCE.fullmatch(source)
            and (number is None or _is_number(number, 1))
            and _is_number(settled, 0)
            and (not_kept == [] or all(_is_number(a, 1) and _is_number(b, a) for a, b in not_kept))
        ):
            return LedgerEntry(source, number, settled, not_kept)
    except (ValueError, TypeError):
        pass
    return None


def _is_number(value: Any, least: int) -> bool:
    return type(value) is int and least <= value <= _LARGEST


def add(ranges: Ranges, first: int, last: int) -> None:
    """Add the numbers from `first` to `last`, in place; those that are there already stay."""
    if ranges and first == ranges[-1][1] + 1:  # what comes in order, which nearly all does
        ranges[-1][1] = last
        return
    low = bisect_left(ranges, first - 1, key=_last)  # the first that touches or comes after
    high = low
    while high < len(ranges) and ranges[high][0] <= last + 1:
        high += 1
    if low < high:
        first, last = min(first, ranges[low][0]), max(last, ranges[high - 1][1])
    ranges[low:high] = [[first, last]]


def _last(pair: list[int]) -> int:
    return pair[1]


def remove(ranges: Ranges, first: int, last: int) -> None:
    """Take the numbers from `first` to `last` out, in place."""
    low = bisect_left(ranges, first, key=_last)
    high, remainders = low, []
    while high < len(ranges) and ranges[high][0] <= last:
        start, end = ranges[high]
        remainders += [[start, first - 1]] if start < first else []
        remainders += [[last + 1, end]] if end > last else []
        high += 1
    ranges[low:high] = remainders


def holes(ranges: Ranges, after: int, until: int) -> Ranges:
    """Return the numbers above `after`, up to `until`, that are not in `ranges`."""
    missing: Ranges = []
    for first, last in ranges:
        if first > until:
            break
        if first > after + 1:
            missing.append([after + 1, first - 1])
        after = max(after, last)
    if after < until:
        missing.append([after + 1, until])
    return missing


def count(ranges: Ranges) -> int:
    """Return how many numbers there are in `ranges`."""
    return sum(last - first + 1 for first, last in ranges)
