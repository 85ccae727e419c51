"""The bytes of an answer's head."""

import time
from collections.abc import Iterable
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

_STATUS_LINES: Final = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode())
    for status in HTTPStatus
}
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
#: Statuses whose answers have no body (RFC 9110, 6.4.1).
BODILESS: Final = frozenset({204, 304})

_date = (0, b"")


def head(status: int, headers: bytes, *, keep_alive: bool) -> bytes:
    """Return status line and headers, without the empty line; `headers` end with CRLF each."""
    line = _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
    return line + _dated() + headers + (b"" if keep_alive else b"connection: close\r\n")


def lines(headers: Iterable[tuple[str, str]]) -> bytes:
    """Return headers as lines, names in lower case."""
    return b"".join(
        b"%b: %b\r\n" % (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in headers
    )


def _dated() -> bytes:
    """Return the Date header, made anew once a second."""
    global _date  # noqa: PLW0603  # a cache of one
    now = int(time.time())
    if _date[0] != now:
        _date = now, f"date: {formatdate(now, usegmt=True)}\r\n".encode()
    return _date[1]
