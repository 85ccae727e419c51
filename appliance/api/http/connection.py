"""HTTP/1.1 on one connection: reads requests one at a time, and writes their response.

A request's head is collected until it is whole, its body until it is whole or too large; then its
handler answers, at once or later, and only then the next request is read. So one connection never
has more than one request under way, however many a client sends ahead.

All that a client can make us hold has a bound: the head, the body, and what is sent ahead, which
ends reading until the request under way is answered. All connections together have a `Budget`.
All that a client can make us wait for has a deadline, which the acceptor looks at twice a second:
that is cheaper than a timer for each request.
"""

import asyncio
import math
from typing import TYPE_CHECKING, Any, Final

from appliance.api.http import head, problems, response
from appliance.api.http.body import BodyFramingError, BodyReader, ChunkedBody, SizedBody
from appliance.api.http.head import MAX_HEAD_BYTES, Head, HeadError, HeadTooLargeError
from appliance.api.http.problems import Problem
from appliance.api.http.proxies import Origin, plain
from appliance.api.http.request import Admission, HeadPolicy, Request, problem_answer
from appliance.auth.principal import ANONYMOUS
from appliance.errors import TooLargeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.api.http.acceptor import Acceptor

#: Seconds for a head to arrive, from its first byte or the connection's begin.
_HEAD_SECONDS: Final = 15.0
#: Seconds that a connection can be idle between requests; longer than most clients' pools keep one.
_KEEP_ALIVE_SECONDS: Final = 75.0
#: Seconds in which a client must have read what was written: a megabyte at 9 kB/s.
_WRITE_SECONDS: Final = 120.0
#: Seconds and bytes for which what still comes after a refusal is read and thrown away. A
#: connection that is closed with unread bytes is reset, and the client would never read why.
_DRAIN_SECONDS: Final = 5.0
_DRAIN_BYTES: Final = 64 * 2**20
#: Bytes that are held of what is sent ahead; with more, reading pauses.
_AHEAD_BYTES: Final = 16 * 1024
#: Requests of one connection answered in one turn of the event loop: the others have theirs in
#: between. A stranger's first one is answered at once, the further ones share a turn with those of
#: all strangers.
_REQUESTS_A_TURN: Final = 16
_REQUESTS_OF_A_STRANGER: Final = 2

_RETRY: Final = {"Retry-After": "1"}
_TOO_MANY: Final = Problem(
    503, "about:blank", "Too many connections", "try again in a moment", _RETRY
)
_TOO_MUCH: Final = Problem(
    503, "about:blank", "Too many unfinished requests", "try again in a moment", _RETRY
)
_HEAD_LIMIT: Final = f"a request's head can have {MAX_HEAD_BYTES} bytes"
_TOO_SLOW: Final = problems.of_status(408, "Too slow", "the body did not arrive in time")


class Connection(asyncio.Protocol):
    """One client's connection."""

    transport: asyncio.Transport

    def __init__(self, acceptor: "Acceptor", policy: HeadPolicy) -> None:
        self.acceptor = acceptor
        self._policy = policy
        self._loop = acceptor.loop
        self._data = b""  # that came and belongs to no request yet, but for what is
        self._place = 0  # before this place, and is cut off at the end of a turn
        self._searched = 0  # up to here the head that is coming does not end
        self._request: Request | None = None  # under way: its body is coming, or its answer
        self._body: BodyReader | None = None  # of that request, as long as it is coming
        self._unread = 0  # bytes of answers that a stranger does not read
        self._held = 0  # bytes that the budget knows of
        self._budget = acceptor.strangers
        self._requests_a_turn = _REQUESTS_OF_A_STRANGER
        self._was_served = False  # a request of a stranger
        self._advancing = self._is_scheduled = False
        self._closes = False  # after the answer under way
        self._drains = 0  # bytes that may still come after a refusal, then it is over
        self._ended = False  # the client sends nothing more
        self._is_reading = True
        self._deadline = self._loop.time() + _HEAD_SECONDS
        self._write_deadline = math.inf
        self._writable: asyncio.Future[None] | None = None
        self.has_gone = False
        #: called once where the client goes, or sends nothing more, while a request is under way
        self.on_leave: Callable[[], None] | None = None
        #: the address of the other side, which may be a proxy's
        self.peer = ""
        self.is_proxied = False  # the other side is a proxy that is trusted

    # --- what asyncio calls ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin; refuse one connection too many."""
        self.transport = transport
        peer = transport.get_extra_info("peername")
        self.peer = plain(peer[0]) if peer else ""
        self.is_proxied = self.acceptor.proxies.trust(self.peer)
        if not self.acceptor.add(self):
            self._refuse(_TOO_MANY)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """End; an answer under way has nobody to go to."""
        self.has_gone = True
        self.acceptor.discard(self)
        self._hold(0)
        self._data, self._body = b"", None
        self._wake_writer()
        self._tell_leave()

    def data_received(self, data: bytes) -> None:
        """Take what the client sends."""
        if self._drains:
            self._drains -= len(data)
            if self._drains <= 0:
                self.transport.abort()
            return
        if self._data:
            data = self._data + data
        self._data = data
        if self._is_scheduled or (self._request is not None and self._body is None):
            self._read_ahead()
        elif self._was_served and self._budget is self.acceptor.strangers:
            self._advance_soon()
            self._read_ahead()
        elif not self._advancing:
            self._advance()

    def eof_received(self) -> bool:
        """Keep the way back open: a client that ends its sending still reads its answer.

        But for an answer without an end.
        """
        self._ended = True
        self._tell_leave()
        if self._drains:
            return False
        self._close_if_ended()
        return not self.transport.is_closing()

    def pause_writing(self) -> None:
        """Begin to time a client that does not read as fast as we write."""
        self._write_deadline = self._loop.time() + _WRITE_SECONDS
        self._writable = self._loop.create_future()
        if self._budget is self.acceptor.strangers:
            self._unread = self.transport.get_write_buffer_size()
            if not self._hold(self._held + self._unread):
                self.transport.abort()

    def resume_writing(self) -> None:
        """Go on with what it asked next."""
        self._write_deadline = math.inf
        self._wake_writer()
        if self._unread:
            self._hold(self._held - self._unread)
            self._unread = 0
        if self._request is None and self._data:
            self._advance_soon()

    # --- reading --------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Serve what is here, request by request, until something must be waited for."""
        self._advancing = True
        served = 0
        try:
            while (
                self._place < len(self._data)
                and not self._drains
                and not self.transport.is_closing()
            ):
                if self._body is not None:
                    self._read_body(self._body)
                elif self._request is not None or self._writable is not None:
                    break
                elif served >= self._requests_a_turn:
                    self._advance_soon()
                    break
                elif self._read_head():
                    served += 1
                    self._was_served = True
                else:
                    break
        finally:
            self._advancing = False
        if self._place:  # at once for all of this turn: each cut copies the rest
            self._data = self._data[self._place :]
            if self._searched:
                self._searched = max(0, self._searched - self._place)
            self._place = 0
        self._read_ahead()
        if self._ended:
            self._close_if_ended()

    def _advance_soon(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            if self._budget is self.acceptor.strangers:
                self.acceptor.advance_later(self)
            else:
                self._loop.call_soon(self.advance_later)

    def advance_later(self) -> None:
        """Go on with what was sent ahead, as `_advance_soon` has asked for."""
        self._is_scheduled = False
        if self._request is None or self._body is not None:
            self._advance()

    def _read_ahead(self) -> None:
        """Account for what is held; read no further when it is much, and a request is under way."""
        size = len(self._data)
        if not size and not self._held and self._body is None and self._is_reading:
            return
        body = len(self._body.body) if self._body is not None else 0
        if self._hold(size + body + self._unread):
            is_answering = self._request is not None and self._body is None
            is_busy = is_answering or self._writable is not None or self._is_scheduled
            waits = is_busy and size > _AHEAD_BYTES
            if waits is self._is_reading and not self._ended:
                self._is_reading = not waits
                (self.transport.pause_reading if waits else self.transport.resume_reading)()
        elif self._request is not None and self._body is None:
            self.transport.abort()  # its answer can't be waited for: what came ahead is too much
        else:
            self._refuse(_TOO_MUCH)

    def _hold(self, size: int) -> bool:
        """Tell the budget how many bytes are held now; whether that is within it."""
        more, self._held = size - self._held, size
        return self._budget.change(more) or more <= 0

    def _read_head(self) -> bool:
        """Read a request's head, and its body where that is here too; whether it was whole."""
        data, place = self._data, self._place
        if data[place] in b"\r\n":  # an empty line before a request is passed over (RFC 9112, 2.2)
            self._place = place = head.skip_empty_lines(data, place)
        end = head.find_end(data, self._searched or place)
        if end < 0:
            self._await_head(data, place)
            return False
        self._searched = 0
        if end - place > MAX_HEAD_BYTES:
            self._refuse_head()
            return False
        return self._decide(data, place, end)

    def _decide(self, data: bytes, place: int, end: int) -> bool:
        """Serve or refuse the request whose head is `data[place:end]`; whether it is a request."""
        raw = data[place:end]
        known = self._policy.recall(raw)
        if known is not None:
            request_head, admission = known
            self._begin(request_head, admission, data, end)
            return True
        try:
            request_head = head.parse(raw)
        except HeadTooLargeError as error:
            self._refuse_head(str(error))
            return False
        except HeadError as error:
            self._refuse(problems.bad_request(str(error)))
            return False
        decision = self._policy.admit(request_head, self.client_of)
        if isinstance(decision, Problem):
            self._place = end
            self._refuse_request(request_head, decision)
        else:
            self._policy.learn(raw, request_head, decision)
            self._begin(request_head, decision, data, end)
        return True

    def _await_head(self, data: bytes, place: int) -> None:
        """Go on collecting the head that begins at `place`, as long as it can become one."""
        if place == len(data):
            return
        if len(data) - place > MAX_HEAD_BYTES:
            self._refuse_head()
        elif not 65 <= data[place] <= 90:  # no method begins so, and TLS would never say more
            self._refuse(problems.bad_request("this is no HTTP request"))
        else:
            if not self._searched:
                self._deadline = min(self._deadline, self._loop.time() + _HEAD_SECONDS)
            self._searched = max(place + 1, len(data) - 2)

    def _begin(self, request_head: Head, admission: Admission, data: bytes, end: int) -> None:
        """Begin a request that was let in."""
        if admission.principal is not ANONYMOUS and self._budget is self.acceptor.strangers:
            self._become_client()
        self._closes = self._closes or not request_head.keep_alive
        self._request = request = Request(self, request_head, admission)
        length = request_head.length
        if length is not None:
            if length > admission.max_body_bytes:
                self._refuse_body()
                return
            if len(data) - end >= length:
                self._place = end + length
                self._hand_over(request, data[end : end + length])
                return
        self._body = ChunkedBody() if length is None else SizedBody(length)
        self._place = end
        self._deadline = self._loop.time() + admission.handler.body_seconds
        if request_head.expects_continue and end == len(data):
            self.write(response.CONTINUE)

    def _become_client(self) -> None:
        """Leave the strangers, once a request was authorized."""
        self._hold(0)
        self._budget = self.acceptor.clients
        self._requests_a_turn = _REQUESTS_A_TURN
        self.acceptor.crowd.promote(self)

    def _read_body(self, body: BodyReader) -> None:
        request = self._request
        assert request is not None  # noqa: S101  # a body belongs to a request
        try:
            self._place += body.feed(self._data[self._place :])
        except BodyFramingError as error:
            self._refuse(problems.bad_request(str(error)))
            return
        if len(body.body) > request.admission.max_body_bytes:
            self._refuse_body()
        elif body.complete:
            if not self._policy.holds(request.admission):
                self._refuse(problems.unauthorized())  # revoked while the body was coming
                return
            self._body = None
            self._hand_over(request, bytes(body.body))

    def _hand_over(self, request: Request, body: bytes) -> None:
        """Have a whole request answered."""
        self._deadline = math.inf
        try:
            request.admission.handler.handle(request, body)
        except Exception as error:  # noqa: BLE001  # whatever it is, the client gets an answer
            request.fail(error)

    # --- refusing -------------------------------------------------------------------------------

    def _refuse_request(self, request_head: Head, problem: Problem) -> None:
        """Answer a request that was not let in; go on with the next one, where it has no body."""
        bodiless = request_head.method == b"HEAD"
        if request_head.length != 0:
            self._refuse(problem, bodiless=bodiless)
            return
        self._closes = self._closes or not request_head.keep_alive
        self.write(problem_answer(problem, keep_alive=self.keeps_alive, bodiless=bodiless))
        self.end_request()

    def _refuse_body(self) -> None:
        request = self._request
        assert request is not None  # noqa: S101  # a body belongs to a request
        most = request.admission.max_body_bytes
        error = TooLargeError(f"the body has more than {most} bytes; nothing of it was kept")
        self._refuse(problems.of(error))

    def _refuse_head(self, limit: str = _HEAD_LIMIT) -> None:
        self._refuse(problems.of_status(431, "Headers too large", limit))

    def _refuse(self, problem: Problem, *, bodiless: bool = False) -> None:
        """Answer a problem and read no further requests: where the next one begins is not known."""
        self.write(problem_answer(problem, keep_alive=False, bodiless=bodiless))
        self._request, self._body = None, None
        self._data, self._place = b"", 0
        self._hold(self._unread)
        self._drains = _DRAIN_BYTES
        self._deadline = self._loop.time() + _DRAIN_SECONDS
        if self._ended or self.transport.is_closing():
            self.transport.close()
            return
        if not self._is_reading:
            self._is_reading = True
            self.transport.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()

    # --- answering ------------------------------------------------------------------------------

    @property
    def keeps_alive(self) -> bool:
        """Whether the connection goes on after the answer under way."""
        return not self._closes

    @property
    def is_idle(self) -> bool:
        """Whether nothing is asked, nothing is coming and nothing waits to be read."""
        return self._request is None and not self._data and self._writable is None

    @property
    def has_left(self) -> bool:
        """Whether the client has gone, or sends nothing more."""
        return self.has_gone or self._ended

    @property
    def has_room(self) -> bool:
        """Whether more can be written without waiting."""
        return self._writable is None

    @property
    def is_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.transport.get_extra_info("sslcontext") is not None

    @property
    def server_address(self) -> Any:
        """The address of this server's socket."""
        return self.transport.get_extra_info("sockname")

    def client_of(self, request_head: Head) -> str:
        """Return the address of the client that sent a head, or had a trusted proxy send it."""
        return (
            self.acceptor.proxies.client(self.peer, request_head) if self.is_proxied else self.peer
        )

    def origin_of(self, request_head: Head) -> Origin:
        """Return the address that the client asked."""
        return self.acceptor.proxies.origin(
            request_head, is_trusted=self.is_proxied, is_tls=self.is_tls
        )

    def prefix_of(self, request_head: Head) -> str:
        """Return the prefix of every address that an answer names."""
        proxies = self.acceptor.proxies
        return proxies.prefix_of(request_head) if self.is_proxied else proxies.prefix

    def write(self, data: bytes) -> None:
        """Write, if there is still somebody to read it."""
        if not self.transport.is_closing():
            self.transport.write(data)

    async def drained(self) -> None:
        """Return when what was written has gone out, but for what the kernel takes."""
        if self._writable is not None:
            await asyncio.shield(self._writable)

    def end_request(self) -> None:
        """Go on with the next request: the one under way is answered."""
        self._request, self.on_leave = None, None
        if self._closes or self.transport.is_closing():
            self._close()
            return
        self._deadline = self._loop.time() + _KEEP_ALIVE_SECONDS
        if self._advancing:
            return
        if self._data:
            self._advance()
        elif self._ended:
            self._close_if_ended()

    def abort(self) -> None:
        """End the connection at once."""
        self._request = None
        self.transport.abort()

    def last_call(self) -> None:
        """End the connection as soon as a request, under way or to come, is answered."""
        self._closes = True

    def stop(self) -> None:
        """End the connection as soon as the request under way is answered."""
        self._closes = True
        if self._request is None and not self._drains:
            self._close()

    def check(self, now: float) -> None:
        """Look at the deadlines; called twice a second."""
        if now >= self._write_deadline:
            self.transport.abort()
        elif now >= self._deadline:
            if self.transport.is_closing():
                self.transport.abort()
            elif self._body is not None and not self._drains:
                self._refuse(_TOO_SLOW)
            else:
                self._close()

    def _close(self) -> None:
        """Close when all that was written has gone out."""
        self._deadline = self._loop.time() + _WRITE_SECONDS
        self.transport.close()

    def _close_if_ended(self) -> None:
        """Close, where the client sends nothing more and everything it asked for is answered."""
        is_answered = self._request is None or self._body is not None
        if is_answered and self._writable is None and not self._is_scheduled:
            self._close()

    def _tell_leave(self) -> None:
        if self.on_leave is not None:
            leave, self.on_leave = self.on_leave, None
            leave()

    def _wake_writer(self) -> None:
        if self._writable is not None:
            if not self._writable.done():
                self._writable.set_result(None)
            self._writable = None
