"""Copies the lines that programs print to one output, a whole line at a time.

supervisord keeps each program's lines in a file (for `supervisorctl tail`); people and container
engines want all of them on standard output as well. Lines of several programs must not be mixed
within a line, and an output that nobody reads (a terminal stopped with Ctrl-S, a pipe whose
reader hangs) must not stop supervisord, which has programs to look after.
"""

import os
import re
import select
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

#: Bytes written at once. A pipe that poll() calls writable takes this many without waiting.
_CHUNK_BYTES: Final = 4096
#: A slow reader is waited for once for this long; while it stays away nothing waits for it.
_PATIENCE_MILLISECONDS: Final = 1000
#: A line longer than this is cut, so that a program that never ends its line costs no memory.
_LONGEST_LINE_BYTES: Final = 256 * 1024
#: Width of the program's name before its lines; "supervisord" has 11 letters.
_NAME_WIDTH: Final = 11
#: Columns below which no line is cut: nothing readable would be left.
_LEAST_COLUMNS: Final = 40
#: Control characters, all but the tab and the end of a line. They steer terminals, and supervisord
#: can't put them into an answer, which is XML.
_CONTROLS: Final = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")
#: Level's name as `logs.terminal` writes it -> its colour.
_COLOURS: Final = {b"WARNING": b"33", b"ERROR": b"31", b"CRITICAL": b"31"}
_LEVEL: Final = re.compile(rb"(?<=\d\d:\d\d:\d\d )(WARNING|ERROR|CRITICAL)\b")
#: The beginning of RabbitMQ's own lines: program, time, level, and an Erlang process. Last, the
#: warning that every start of a new node gives, and that asks for nothing.
_RABBITMQ: Final = re.compile(
    rb"^(broker +)(\d{4}-\d\d-\d\dT\S+) \[(\w+)\] <[\d.]+> "
    rb"(?=(Message store \S+: rebuilding indices from scratch)?)"
)
#: Its levels that a terminal need not name.
_UNNAMED: Final = frozenset([b"debug", b"info", b"notice"])


def without_controls(text: bytes) -> bytes:
    r"""Return `text` with each control character written as `\x1b`; lines end with a newline."""
    if not _CONTROLS.search(text):
        return text
    text = text.replace(b"\r\n", b"\n")
    return _CONTROLS.sub(lambda match: b"\\x%02x" % match[0][0], text)


class Output:
    """A descriptor that is never waited for longer than a moment.

    Lines that it does not take are dropped and counted; the count is written as soon as it takes
    lines again.
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


class Screen:
    """How lines look on the terminal behind `descriptor`: cut to its width, levels in colour."""

    def __init__(self, descriptor: int, environ: Mapping[str, str]) -> None:
        self._descriptor = descriptor
        self._colours = not environ.get("NO_COLOR")

    def shown(self, line: bytes) -> bytes:
        """Return a line, with or without its end, as it looks; the log file keeps it whole."""
        text = _RABBITMQ.sub(_shortened, line.rstrip(b"\n"))
        columns = self._columns()
        if columns >= _LEAST_COLUMNS and len(text) > columns:
            characters = text.decode(errors="surrogateescape")
            if len(characters) > columns:
                text = (characters[: columns - 1] + "…").encode(errors="surrogateescape")
        if self._colours:
            text = _LEVEL.sub(_coloured, text, count=1)
        return text + b"\n"

    def _columns(self) -> int:
        """Return the width now, 0 where it is unknown: a window may change its size."""
        try:
            return os.get_terminal_size(self._descriptor).columns
        except OSError:
            return 0


def _shortened(match: re.Match[bytes]) -> bytes:
    """Return the beginning of a line of RabbitMQ in the form of our own."""
    name, written, level, is_normal = match.groups()
    try:
        time = datetime.fromisoformat(written.decode()).astimezone(UTC)
    except ValueError:
        return match[0]
    names_level = level not in _UNNAMED and not is_normal
    words = [f"{time:%H:%M:%S}".encode()] + ([level.upper()] if names_level else [])
    return name + b" ".join(words) + b" "


def _coloured(match: re.Match[bytes]) -> bytes:
    return b"\x1b[%sm%s\x1b[0m" % (_COLOURS[match[0]], match[0])


class Lines:
    """Puts the pieces that pipes deliver back together to whole lines."""

    def __init__(
        self, write: Callable[[bytes], None], *, named: bool, screen: Screen | None = None
    ) -> None:
        """`named`: put the program's name before each line (text for people, not JSON)."""
        self._write = write
        self._named = named
        self._screen = screen
        self._tails: dict[str, bytes] = {}

    def add(self, program: str, data: bytes) -> None:
        """Take a piece of the output of `program`; write the lines that are complete now."""
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
        """Write the rest of a program that ended within a line."""
        tail = self._tails.pop(program, b"")
        if tail:
            self._write(self._shown(program, tail + b"\n"))

    def _shown(self, program: str, lines: bytes) -> bytes:
        lines = without_controls(lines)
        if not self._named:
            return lines
        name = f"{program:<{_NAME_WIDTH}} ".encode()
        named = [name + line for line in lines.splitlines(keepends=True)]
        if self._screen:
            named = [self._screen.shown(line) for line in named]
        return b"".join(named)
