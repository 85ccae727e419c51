"""An entry of a queue's log, in a write-ahead log or in a segment."""

from collections.abc import Callable
from typing import BinaryIO, Final, NamedTuple

#: Bytes of an entry that are held while it is summed up: one can be as large as a request.
_PIECE: Final = 64 * 1024


class LogEntry(NamedTuple):
    """What Ra keeps under a number, which has no gap within a queue; `data` is an Erlang term."""

    number: int
    term: int
    data: bytes


def sum_of(file: BinaryIO, length: int, add: Callable[[bytes, int], int], start: int) -> int | None:
    """Return the checksum of the next bytes of a file; None where it has fewer. Raises OSError."""
    total, left = start, length
    while left:
        piece = file.read(min(left, _PIECE))
        if not piece:
            return None
        total, left = add(piece, total), left - len(piece)
    return total
