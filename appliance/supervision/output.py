"""Copies what programs print to one output, a whole line at a time.

supervisord keeps each program's lines in a file (for `supervisorctl tail`); people and container
engines want all of them on standard output as well. Lines of several programs must not be mixed
within a line, and an output that nobody reads (a terminal stopped with Ctrl-S, a pipe whose
reader hangs) must not stop supervisord, which has programs to look after.
"""

import os
import select
from collections.abc import Callable
from typing import Final

#: Bytes written at once. A pipe that poll() calls writable takes this many without waiting.
_CHUNK_BYTES: Final = 4096
#: A slow reader is waited for once for this long; while it stays away nothing waits for it.
_PATIENCE_MILLISECONDS: Final = 1000
#: A line longer than this is cut, so that a program that never ends its line costs no memory.
_LONGEST_LINE_BYTES: Final = 256 * 1024
#: Width of the program's name before its lines; "supervisord" has 11 letters.
_NAME_WIDTH: Final = 11


class Output:
    """A descriptor that is never waited for longer than a moment.

    What it does not take is dropped, counted, and said as soon as it takes something again.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = _without_waiting(descriptor)
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLOUT)
        self._dropped_bytes = 0

    def write(self, lines: bytes) -> None:
        """Write whole lines; never raises, as there is nowhere left to say so."""
        if self._dropped_bytes:
            if not self._ready(0):
                self._dropped_bytes += len(lines)
                return
            note = f"\n[{self._dropped_bytes} bytes of logs were not read in time and dropped]\n"
            lines = note.encode() + lines
            self._dropped_bytes = 0
        view = memoryview(lines)
        while view:
            written = self._write_some(view[:_CHUNK_BYTES])
            if not written:
                self._dropped_bytes = len(view)
                return
            view = view[written:]

    def _write_some(self, part: memoryview) -> int:
        if not self._ready(_PATIENCE_MILLISECONDS):
            return 0
        try:
            return os.write(self._descriptor, part)
        except OSError:  # the terminal or the reader is gone, or its disk is full
            return 0

    def _ready(self, milliseconds: int) -> bool:
        return any(events & select.POLLOUT for _, events in self._poll.poll(milliseconds))


def _without_waiting(descriptor: int) -> int:
    """Return a descriptor for the same output that a write does not wait at.

    Needed for a terminal only: it may call itself writable with room for a few bytes, and then
    hold a write that has more. It is opened anew because the mode would else be changed for the
    shell as well, which shares the descriptor.
    """
    if not os.isatty(descriptor):
        return descriptor
    try:
        return os.open(
            f"/proc/self/fd/{descriptor}",
            os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC,
        )
    except OSError:  # another user's terminal, as after su
        return descriptor


class Lines:
    """Puts the pieces that pipes deliver back together to whole lines."""

    def __init__(self, write: Callable[[bytes], None], *, named: bool) -> None:
        """`named`: put the program's name before each line (text for people, not JSON)."""
        self._write = write
        self._named = named
        self._tails: dict[str, bytes] = {}

    def add(self, program: str, data: bytes) -> None:
        """Take what `program` printed; write the lines that are complete now."""
        data = self._tails.pop(program, b"") + data
        end = data.rfind(b"\n") + 1
        if len(data) - end > _LONGEST_LINE_BYTES:
            data += b"\n"
            end = len(data)
        if end < len(data):
            self._tails[program] = data[end:]
        if end:
            self._write(self._shown(program, data[:end]))

    def finish(self, program: str) -> None:
        """Write what is left of a program that ended within a line."""
        tail = self._tails.pop(program, b"")
        if tail:
            self._write(self._shown(program, tail + b"\n"))

    def _shown(self, program: str, lines: bytes) -> bytes:
        if not self._named:
            return lines
        name = f"{program:<{_NAME_WIDTH}} ".encode()
        return b"".join(name + line for line in lines.splitlines(keepends=True))
