"""The head of a request: its line and its headers.

A head is parsed when it is here as a whole, so no part of it can grow without a bound. httptools
(llhttp) reads it strictly; two rules are added. Each makes sure that we see the request as any
proxy in front of us did, so that no request can hide in another one (RFC 9112, 11.2):

- A line may end with a bare LF (RFC 9112, 2.2), but not where a reader that heeds only CRLF would
  see another body: next to a line that frames the body, or at the head's end, unless every line
  of the head ends so.
- A body is framed by one Content-Length or by `Transfer-Encoding: chunked`, and by nothing else.
"""

import itertools
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote

import httptools

#: Bytes of a request's line and headers.
MAX_HEAD_BYTES: Final = 32 * 1024
#: Headers of a request. A head of tiny ones would cost milliseconds to parse.
MAX_HEADERS: Final = 128

_EMPTY_LINES: Final = re.compile(rb"[\r\n]*")
_END: Final = re.compile(rb"\n\r?\n")
_BARE_LF: Final = re.compile(rb"(?<!\r)\n")
_FRAMES_BODY: Final = re.compile(rb"(?:content-length|transfer-encoding)[ \t]*:", re.IGNORECASE)

Headers = list[tuple[bytes, bytes]]


class HeadError(Exception):
    """The bytes are no head of a request; the message says why, for the client."""


class HeadTooLargeError(HeadError):
    """A head has more headers than it can have."""


class Head:
    """A request's head. `headers` have names in lower case, in the order in which they came.

    `path` is percent-decoded, `query` is not. `length` is that of the body in bytes, 0 where there
    is none, and None where the body is chunked.
    """

    __slots__ = (
        "expects_continue",
        "headers",
        "keep_alive",
        "length",
        "method",
        "path",
        "query",
        "target",
        "values",
        "version",
    )

    method: bytes
    path: str
    query: bytes
    version: str
    keep_alive: bool
    length: int | None
    #: The headers by name; of several with one name, the last.
    values: dict[bytes, bytes]
    expects_continue: bool

    def __init__(self) -> None:
        self.target = b""
        self.headers: Headers = []

    def with_values(self, values: Mapping[bytes, bytes]) -> "Head":
        """Return the same head with other values of headers that it has once each."""
        head = Head.__new__(Head)
        head.method, head.version, head.target = self.method, self.version, self.target
        head.path, head.query = self.path, self.query
        head.keep_alive, head.expects_continue = self.keep_alive, self.expects_continue
        head.headers = [(name, values.get(name, value)) for name, value in self.headers]
        head.values = {**self.values, **values}
        length = values.get(b"content-length")
        head.length = self.length if length is None else int(length)
        return head

    def on_url(self, url: bytes) -> None:
        """Take the request's target; called by the parser."""
        self.target = url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header; called by the parser."""
        self.headers.append((name.lower(), value))


def skip_empty_lines(data: bytes, start: int) -> int:
    """Return the first place from `start` on that is in no empty line."""
    match = _EMPTY_LINES.match(data, start)
    return match.end() if match else start


def find_end(data: bytes, start: int) -> int:
    """Return where the head that `data` begins with ends, or -1; nothing ends before `start`."""
    match = _END.search(data, start)
    return match.end() if match else -1


def parse(data: bytes) -> Head:
    """Parse a head, from its first byte to the end of its empty line.

    Raises HeadTooLargeError for too many headers, HeadError for any other fault.
    """
    lines = data.count(b"\n")
    if lines > MAX_HEADERS + 2:  # the request's line and the empty one
        raise HeadTooLargeError(f"a request can have {MAX_HEADERS} headers")
    if lines != data.count(b"\r\n"):
        data = _with_crlf(data)
    head = Head()
    parser = httptools.HttpRequestParser(head)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        # RFC 9110 lets a server ignore the wish, as curl --http2 and Java's client expect.
        pass
    except httptools.HttpParserInvalidURLError as error:
        raise HeadError(
            "the address has bytes that must be percent-encoded, such as %C3%A9 for \u00e9"
        ) from error
    except httptools.HttpParserError as error:
        raise HeadError(str(error)) from error
    head.method = parser.get_method()
    head.version = parser.get_http_version()
    if head.version not in ("1.1", "1.0"):
        raise HeadError("this server speaks HTTP/1.1")
    if head.method == b"CONNECT":
        raise HeadError("this is not a proxy")
    _split_target(head)
    head.values = values = dict(head.headers)
    if len(values) < len(head.headers) and sum(name == b"host" for name, _ in head.headers) > 1:
        raise HeadError("there is more than one Host")
    head.keep_alive = head.version == "1.1" and not (
        b"connection" in values and _asks_to_close(head.headers)
    )
    head.length = _length(head, values)
    head.expects_continue = values.get(b"expect", b"").lower() == b"100-continue"
    return head


def _asks_to_close(headers: Headers) -> bool:
    values = b",".join(value for name, value in headers if name == b"connection")
    return b"close" in [token.strip().lower() for token in values.split(b",")]


def _split_target(head: Head) -> None:
    try:
        url = httptools.parse_url(head.target)
    except httptools.HttpParserInvalidURLError as error:
        raise HeadError("the address can't be read") from error
    path = (url.path or b"/").decode("ascii")
    head.path = unquote(path) if "%" in path else path
    head.query = url.query or b""


def _length(head: Head, values: dict[bytes, bytes]) -> int | None:
    coding = values.get(b"transfer-encoding")
    if coding is not None:
        if coding.strip().lower() != b"chunked" or head.version == "1.0":
            raise HeadError("the only Transfer-Encoding is chunked, in HTTP/1.1")
        return None
    return int(values.get(b"content-length", b"0"))  # digits of 64 bits: llhttp has looked


def _with_crlf(data: bytes) -> bytes:
    """Return the head with a CRLF at each line's end. Raises HeadError where that is ambiguous."""
    if b"\r" not in data:
        return data.replace(b"\n", b"\r\n")
    lines = data.split(b"\n")  # the last two are the empty line and what is behind it: nothing
    for line, following in itertools.pairwise(lines):
        if line.endswith(b"\r"):
            continue
        at_end = following in (b"", b"\r") or line == b""
        if at_end or _FRAMES_BODY.match(line) or _FRAMES_BODY.match(following):
            raise HeadError("some lines end with CRLF and some with LF, which is ambiguous here")
    return _BARE_LF.sub(b"\r\n", data)
