"""Cutting an input into batches of whole lines, at the speed of its bytes.

A million lines are read in blocks and cut at a newline here and there; no line is ever looked at
by itself.
"""

import os
import select
import time
from collections.abc import Iterator
from typing import Final, NamedTuple

from appliance.errors import InputError

#: Bytes and lines of a batch: large enough that the round trip costs little, small enough that one
#: stored transaction stays in the tens of milliseconds, and below what one request may hold.
BATCH_BYTES: Final = 2**20
BATCH_LINES: Final = 5000
#: Seconds after which a slow input's lines are sent, though they fill no batch.
LINGER_SECONDS: Final = 0.2
#: Bytes. No server takes a longer message, whatever its settings.
LONGEST_LINE: Final = 16 * 2**20


class Batch(NamedTuple):
    """Whole lines: the lines `first` to `last` of the input, counted from 1."""

    data: bytes
    first: int
    last: int


def read_batches(
    descriptor: int, max_bytes: int = BATCH_BYTES, max_lines: int = BATCH_LINES
) -> Iterator[Batch]:
    """Cut the content of a file, pipe or terminal into batches, until it ends.

    A pipe that gives lines slowly gets each sent within LINGER_SECONDS. Raises InputError for
    a line that no server could take.
    """
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    rest = bytearray()
    first = 1
    due: float | None = None
    ended = False
    while rest or not ended:
        if not ended:
            pause = None if due is None else max(0.0, due - time.monotonic()) * 1000
            if poll.poll(pause):
                block = os.read(descriptor, max_bytes)
                ended = not block
                rest += block
                if due is None:
                    due = time.monotonic() + LINGER_SECONDS
        overdue = ended or (due is not None and time.monotonic() >= due)
        while end := _cut(rest, max_bytes, max_lines, partly=overdue, ended=ended):
            data = bytes(memoryview(rest)[:end])
            del rest[:end]
            lines = data.count(b"\n") + (not data.endswith(b"\n"))
            yield Batch(data, first, first + lines - 1)
            first += lines
        if len(rest) > LONGEST_LINE and b"\n" not in rest:
            raise InputError(f"line {first} is longer than {LONGEST_LINE} bytes")
        if overdue:
            due = time.monotonic() + LINGER_SECONDS if rest else None


def read_file_batches(descriptor: int, offset: int, first: int, end: int) -> Iterator[Batch]:
    """Cut a file's content from `offset`, where the line `first` begins.

    The first batch ends at `end`, if that is more than `offset`. How the others are cut follows
    from the content alone, so that a second run cuts as the first one did. Raises InputError for a
    line that no server could take.
    """
    rest = bytearray()
    ended = False
    while rest or not ended:
        wanted = max(BATCH_BYTES, end - offset)
        while not ended and (
            len(rest) < wanted or (b"\n" not in rest and len(rest) <= LONGEST_LINE)
        ):
            block = os.pread(descriptor, BATCH_BYTES, offset + len(rest))
            ended = not block
            rest += block
        if end > offset:
            cut = min(end - offset, len(rest))
        else:
            cut = _cut(rest, BATCH_BYTES, BATCH_LINES, partly=True, ended=ended)
        if not cut:
            if rest:
                raise InputError(f"line {first} is longer than {LONGEST_LINE} bytes")
            return
        data = bytes(memoryview(rest)[:cut])
        del rest[:cut]
        lines = data.count(b"\n") + (not data.endswith(b"\n"))
        yield Batch(data, first, first + lines - 1)
        first += lines
        offset += cut


def _cut(rest: bytearray, max_bytes: int, max_lines: int, *, partly: bool, ended: bool) -> int:
    """Return where the next batch ends; 0 if there is none yet.

    `partly`: take the lines at hand, though they fill no batch. `ended`: the last line needs no
    newline.
    """
    if ended and len(rest) <= max_bytes:
        end = len(rest)
    else:
        end = rest.rfind(b"\n", 0, max_bytes) + 1 or rest.find(b"\n", max_bytes) + 1
        if not end and ended:
            end = len(rest)
    count = rest.count(b"\n", 0, end)
    if not partly and len(rest) < max_bytes and count < max_lines:
        return 0
    while count > max_lines:
        # Lines of about the same length are cut right at once, others after a few rounds.
        guess = end * max_lines // count
        end = rest.rfind(b"\n", 0, guess) + 1 or rest.find(b"\n") + 1
        count = rest.count(b"\n", 0, end)
    return end
