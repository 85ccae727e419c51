"""The body of a request as it comes: of a length that the head says, or in chunks.

What stands between the chunks (extensions, trailers) is read, checked and thrown away, and has
bounds of its own: it may not grow because the body doesn't.
"""

import re
from typing import Final, Protocol

#: Bytes of a line that announces a chunk, and of all extensions together.
_MAX_SIZE_LINE_BYTES: Final = 1024
_MAX_EXTENSION_BYTES: Final = 16 * 1024
#: Bytes of all trailers.
_MAX_TRAILER_BYTES: Final = 8 * 1024

_SIZE_LINE: Final = re.compile(rb"([0-9a-fA-F]{1,15})(;[\t\x20-\x7e\x80-\xff]*)?")
_TRAILER: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*")


class BodyFramingError(Exception):
    """The bytes are no body as the head announced it; the message says why, for the client."""


class BodyReader(Protocol):
    """Takes a body piece by piece. `body` grows, `complete` turns true at its end."""

    body: bytearray
    complete: bool

    def feed(self, data: bytes) -> int:
        """Take what belongs to the body; return how many bytes that was.

        Raises BodyFramingError.
        """


class SizedBody:
    """A body of `length` bytes, at least one."""

    __slots__ = ("_left", "body", "complete")

    def __init__(self, length: int) -> None:
        self._left = length
        self.body = bytearray()
        self.complete = False

    def feed(self, data: bytes) -> int:
        """Take what belongs to the body; return how many bytes that was."""
        part = data if len(data) <= self._left else data[: self._left]
        self.body += part
        self._left -= len(part)
        self.complete = not self._left
        return len(part)


class ChunkedBody:
    """A body in chunks (RFC 9112, 7.1), read strictly: its lines end with CRLF."""

    __slots__ = (
        "_extension_bytes",
        "_left",
        "_line",
        "_read",
        "_trailer_bytes",
        "body",
        "complete",
    )

    def __init__(self) -> None:
        self.body = bytearray()
        self.complete = False
        self._line = b""  # the beginning of a line whose end has not come
        self._left = 0  # bytes of the chunk that have not come
        self._extension_bytes = self._trailer_bytes = 0
        self._read = self._size_line

    def feed(self, data: bytes) -> int:
        """Take what belongs to the body; return how many bytes that was.

        Raises BodyFramingError.
        """
        place = 0
        while place < len(data) and not self.complete:
            if self._left:
                part = data[place : place + self._left]
                self.body += part
                self._left -= len(part)
                place += len(part)
                continue
            end = data.find(b"\n", place) + 1
            part = data[place : end or len(data)]
            if len(self._line) + len(part) > _MAX_SIZE_LINE_BYTES:
                raise BodyFramingError("a line between the chunks is too long")
            self._line += part
            place += len(part)
            if end:
                line, self._line = self._line, b""
                if not line.endswith(b"\r\n"):
                    raise BodyFramingError("a line between the chunks does not end with CRLF")
                self._read(line[:-2])
        return place

    def _size_line(self, line: bytes) -> None:
        match = _SIZE_LINE.fullmatch(line)
        if not match:
            raise BodyFramingError("a chunk does not begin with its size in hexadecimal digits")
        self._extension_bytes += len(match[2] or b"")
        if self._extension_bytes > _MAX_EXTENSION_BYTES:
            raise BodyFramingError("the chunks have too many extensions")
        self._left = int(match[1], 16)
        self._read = self._chunk_end if self._left else self._trailer

    def _chunk_end(self, line: bytes) -> None:
        if line:
            raise BodyFramingError("a chunk is longer than it said")
        self._read = self._size_line

    def _trailer(self, line: bytes) -> None:
        if not line:
            self.complete = True
            return
        self._trailer_bytes += len(line)
        if self._trailer_bytes > _MAX_TRAILER_BYTES:
            raise BodyFramingError("the body has too many trailers")
        if not _TRAILER.fullmatch(line):
            raise BodyFramingError("a trailer is no header")
