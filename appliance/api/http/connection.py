"""HTTP on a connection: uvicorn's protocol, with bounds, and one write for an answer."""

import sys
from asyncio import AbstractEventLoop, TimerHandle, Transport
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from appliance.api.http import problems

#: Connections at once; more are answered 503. Each costs some kilobytes and a file.
MOST_CONNECTIONS: Final = 4096
#: Bytes of a request's line and headers.
_MOST_HEAD_BYTES: Final = 32 * 1024
#: Bytes that are written at once and not joined with what follows.
_JOIN_BYTES: Final = 64 * 1024
#: Seconds for a request's head to arrive, from its first byte or the connection's begin.
_HEAD_TIMEOUT: Final = 15.0
#: Seconds in which a client must have read what was written: a megabyte at 9 kB/s.
_WRITE_TIMEOUT: Final = 120.0
#: Seconds for which what still comes after a refusal is read and thrown away. A connection closed
#: with unread bytes is reset, and the client would never read why.
_REFUSED_TIMEOUT: Final = 2.0


class _OneWrite:
    """A transport that joins what is written in one turn of the event loop.

    uvicorn writes an answer's head and body apart, each a system call; they are the dearest part
    of a small answer.
    """

    __slots__ = ("_loop", "_parts", "_transport")

    def __init__(self, transport: Transport, loop: AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)
        if len(data) >= _JOIN_BYTES:
            self._flush()

    def write_whole(self, data: bytes) -> None:
        """Write at once what nothing follows."""
        if self._parts:
            self.write(data)
        else:
            self._transport.write(data)

    def write_eof(self) -> None:
        self._flush()
        self._transport.write_eof()

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._parts:
            parts, self._parts = self._parts, []
            self._transport.write(b"".join(parts))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with bounds: connections, a head's bytes and the time it may take.

    And without upgrades: RFC 9110 lets a server ignore that one is asked for, as curl --http2 and
    Java's client do with every first request. uvicorn would answer that request without its body.
    """

    cycle: Any
    pipeline: Any

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Begin to count and to time; refuse one connection too many."""
        self._wire = _OneWrite(transport, self.loop)
        super().connection_made(self._wire)  # type: ignore[arg-type]
        self.refused = False
        self.between = True  # the parser is between two requests
        self.requests = 0  # begun
        self._last_words: bytes | None = None
        self._data = b""
        self._head_bytes = 0
        self._in_head = True
        self._stalled = False
        self._head_timer: TimerHandle | None = self.loop.call_later(_HEAD_TIMEOUT, transport.close)
        self._write_timer: TimerHandle | None = None
        if len(self.connections) > MOST_CONNECTIONS:
            self._refuse(
                problems.of_status(503, "Too many connections", "come again in a moment"),
                "retry-after: 1\r\n",
            )
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the timers."""
        self.head_complete()
        self._stop_write_timer()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Begin to time a client that does not read as fast as we write."""
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(_WRITE_TIMEOUT, self.transport.abort)

    def resume_writing(self) -> None:
        """End to time it, and go on with what it asked next."""
        self._stop_write_timer()
        super().resume_writing()
        if self._stalled:
            self._stalled = False
            self.on_response_complete()

    @property
    def idle(self) -> bool:
        """Whether all that was asked is answered."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def date(self) -> bytes:
        """The headers that every answer has, each ended by CRLF."""
        return b"".join(b"%b: %b\r\n" % header for header in self.server_state.default_headers)

    def write(self, data: bytes) -> None:
        """Write an answer, if there is still somebody to read it."""
        if not self.transport.is_closing():
            self._wire.write_whole(data)

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self.between, self._in_head = False, True
        self.requests += 1
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        """End a head; one that came in few pieces may be too large all the same."""
        if self.parser.should_upgrade():
            return  # it is read again without
        self._in_head = False
        self.head_complete()
        if len(self.url) + sum(len(n) + len(v) for n, v in self.headers) > _MOST_HEAD_BYTES:
            self._refuse_head()
        else:
            self.serve()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        if not self.refused and not self.cycle.response_complete:
            self.on_part(body)

    def on_message_complete(self) -> None:
        """End a request."""
        if not self.refused and not self.parser.should_upgrade():
            self.between = True
            if not self.cycle.response_complete:
                self.on_end()

    def serve(self) -> None:
        """Serve the request whose head is complete."""
        super().on_headers_complete()

    def on_part(self, part: bytes) -> None:
        """Take a piece of the body of a request that is served."""
        super().on_body(part)

    def on_end(self) -> None:
        """End the body of a request that is served."""
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on with the next request, but not while the client does not read its answers."""
        if self.flow.write_paused:
            self.flow.pause_reading()
            self._stalled = True
            return
        last = not self.pipeline
        super().on_response_complete()
        if last:
            self._say_last_words()

    def data_received(self, data: bytes) -> None:
        """Refuse a head that grows too large or comes too slowly."""
        if self.refused:
            return
        self._data = data
        before, begins = self.requests, int(self.between)
        super().data_received(data)
        self._data = b""
        if self._in_head and not self.refused and not self.transport.is_closing():
            if self.requests - before <= begins:  # else it began somewhere amid the data
                self._head_bytes += len(data)
            if self._head_timer is None:
                self._head_timer = self.loop.call_later(_HEAD_TIMEOUT, self.transport.close)
            if self._head_bytes > _MOST_HEAD_BYTES:
                self._refuse_head()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP in the shape that every other refusal has."""
        self._refuse(problems.bad_request(msg))

    def _unsupported_upgrade_warning(self) -> None:
        """Read a request again without its wish; called while HttpParserUpgrade is handled."""
        upgrade: Any = sys.exc_info()[1]
        rest, method = self._data[upgrade.args[0] :], self.parser.get_method()
        if method == b"CONNECT":  # an upgrade without the header
            self.send_400_response("this is not a proxy")
            return
        head = [b"%s %s HTTP/1.1" % (method, self.url)]
        head += [n + b": " + v for n, v in self.headers if n not in (b"upgrade", b"connection")]
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(b"\r\n".join(head) + b"\r\n\r\n" + rest)

    def head_complete(self) -> None:
        """End to time a head."""
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _refuse_head(self) -> None:
        limit = f"a request's head may have {_MOST_HEAD_BYTES} bytes"
        self._refuse(problems.of_status(431, "Headers too large", limit))

    def _refuse(self, problem: problems.Problem, more: str = "") -> None:
        """Read no further; what was asked before is answered, then comes the refusal."""
        self.refused = True
        self.head_complete()
        body = problem.encode()
        head = (
            f"HTTP/1.1 {problem.status} {problem.title}\r\n"
            f"content-type: {problems.CONTENT_TYPE}\r\n"
            f"content-length: {len(body)}\r\n"
            f"connection: close\r\n{more}\r\n"
        )
        self._last_words = head.encode() + body
        if not self.idle and self.cycle.more_body:  # then it is this one that is refused
            if self.pipeline:
                self.pipeline.popleft()
                return
            if self.cycle.response_started:
                self._last_words = b""
            self.cycle.response_complete = True
        if self.idle:
            self._say_last_words()

    def _say_last_words(self) -> None:
        words, self._last_words = self._last_words, None
        if words is not None and not self.transport.is_closing():
            if words:
                self.transport.write(words)
            self.transport.write_eof()
            self.loop.call_later(_REFUSED_TIMEOUT, self.transport.close)
