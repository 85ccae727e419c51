"""Long ascending lists of numbers, kept as short parts that can be read one after another. Pure.

A million numbers that follow one another take some kilobytes: the distances are packed.
"""

import operator
import zlib
from array import array
from collections.abc import Iterable, Iterator
from itertools import accumulate, islice
from typing import Final, NamedTuple

#: Numbers of one part, and its bytes unpacked: what a reader holds at once.
PART: Final = 4096
_ITEM_BYTES: Final = 8


class SeqPart(NamedTuple):
    """A part of such a list: its last number, how many they are, and all of them, packed."""

    last: int
    numbers: int
    packed: bytes


def seq_parts(seqs: Iterable[int]) -> Iterator[SeqPart]:
    """Yield ascending numbers in parts; none is held longer than its part."""
    left = iter(seqs)
    while piece := list(islice(left, PART)):
        steps = array("q", [piece[0], *map(operator.sub, piece[1:], piece)])
        yield SeqPart(piece[-1], len(piece), zlib.compress(steps.tobytes(), 1))


def seqs_of(packed: bytes) -> list[int]:
    """Return the numbers of a part. Raises ValueError for what is no part."""
    reader = zlib.decompressobj()
    try:
        data = reader.decompress(packed, PART * _ITEM_BYTES)
    except zlib.error as error:
        raise ValueError(f"no part of a list of numbers: {error}") from error
    if not reader.eof or len(data) % _ITEM_BYTES:
        raise ValueError("no part of a list of numbers")
    return list(accumulate(array("q", data)))
