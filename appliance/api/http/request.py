"""A request that was let in, and the ways to answer it.

A handler gets a request when its body is whole, and answers it at once or later.
"""

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from appliance.api.http import problems, response
from appliance.api.http.head import Head
from appliance.api.http.problems import Problem
from appliance.api.http.proxies import Origin
from appliance.errors import ApplianceError

if TYPE_CHECKING:
    import asyncio

    from appliance.api.http.connection import Connection
    from appliance.auth.principal import Principal

_log: Any = structlog.get_logger(__name__)


class RequestHandler(Protocol):
    """Answers requests of one kind, on the event loop."""

    @property
    def body_seconds(self) -> float:
        """Seconds for a body to arrive."""

    def handle(self, request: "Request", body: bytes) -> None:
        """Answer the request, whose body is whole: now, or later by a callback or a task.

        Raises what the client is told as `problems.of` says it.
        """


class Admission:
    """A head that is let in: who answers it, for whom, and how large its body can be.

    `details` are the handler's own.
    """

    __slots__ = ("details", "handler", "max_body_bytes", "principal")

    def __init__(
        self,
        handler: RequestHandler,
        principal: "Principal",
        max_body_bytes: int,
        details: Any = None,
    ) -> None:
        self.handler = handler
        self.principal = principal
        self.max_body_bytes = max_body_bytes
        self.details = details


class HeadPolicy(Protocol):
    """Decides on heads."""

    def recall(self, data: bytes) -> tuple[Head, Admission] | None:
        """Return what was decided on a head of the same bytes, if that still holds."""

    def learn(self, data: bytes, request_head: Head, admission: Admission, /) -> None:
        """Remember a decision, where a head of the same bytes may come again."""

    def holds(self, admission: Admission, /) -> bool:
        """Whether a decision that was made when a request's head came still holds."""

    def admit(self, request_head: Head, client_of: Callable[[Head], str], /) -> Admission | Problem:
        """Return who answers a request with this head, or why it gets nothing.

        `client_of` returns the address of the client that sent it.
        """


class Request:
    """One request that was let in; its handler answers by exactly one of the ways below.

    `respond` or `refuse`; or `start`, `send` as often as wanted, and `finish` or `abort`.
    """

    __slots__ = ("_answered", "_chunked", "_connection", "admission", "head")

    def __init__(self, connection: "Connection", request_head: Head, admission: Admission) -> None:
        self._connection = connection
        self._answered = False
        self._chunked = False
        self.head = request_head
        self.admission = admission

    @property
    def is_answered(self) -> bool:
        """Whether the answer has begun."""
        return self._answered

    @property
    def has_gone(self) -> bool:
        """Whether nobody is there any more to read the answer."""
        return self._connection.has_gone

    @property
    def client_address(self) -> str:
        """The client's IP address; behind a trusted proxy that of the client in front of it."""
        return self._connection.client_of(self.head)

    @property
    def server_address(self) -> Any:
        """The address of this server's socket."""
        return self._connection.server_address

    @property
    def origin(self) -> Origin:
        """The address under which the client reaches us."""
        return self._connection.origin_of(self.head)

    @property
    def prefix(self) -> str:
        """What stands before the path of each address that an answer names: `/inbox`, or empty."""
        return self._connection.prefix_of(self.head)

    def on_leave(self, leave: Callable[[], None]) -> None:
        """Have `leave` called once, where the client goes or sends nothing more.

        For an answer that has no end: whoever closes a connection first ends its own side.
        """
        if self._connection.has_left:
            leave()
        else:
            self._connection.on_leave = leave

    def be_last(self) -> None:
        """Have the connection closed after the answer."""
        self._connection.stop()

    def respond(self, status: int, headers: bytes, body: bytes) -> None:
        """Answer with a whole body; `headers` without its length, each ended by CRLF."""
        self._answered = True
        connection = self._connection
        keep_alive = connection.keeps_alive
        if status in response.BODILESS:
            body, length = b"", b""
        else:
            length = b"content-length: %d\r\n" % len(body)
        if self.head.method == b"HEAD":
            body = b""
        connection.write(
            response.head(status, headers + length, keep_alive=keep_alive) + b"\r\n" + body
        )
        connection.end_request()

    def refuse(self, problem: Problem) -> None:
        """Answer a problem."""
        self.respond(problem.status, _problem_headers(problem), problem.encode())

    def fail(self, error: BaseException) -> None:
        """Answer what an error means, if it can still be answered; else break the answer off."""
        if not isinstance(error, ApplianceError):
            _log.error("request failed", exc_info=error)
        if self._answered:
            self.abort()
        elif isinstance(error, ApplianceError):
            self.refuse(problems.of(error))
        else:
            self.refuse(problems.internal())

    def start(self, status: int, headers: bytes) -> None:
        """Begin an answer whose length is not known."""
        self._answered = True
        connection = self._connection
        if self.head.version == "1.1" and status not in response.BODILESS:
            self._chunked = True
            headers += b"transfer-encoding: chunked\r\n"
        keep_alive = connection.keeps_alive
        connection.write(response.head(status, headers, keep_alive=keep_alive) + b"\r\n")

    async def send(self, piece: bytes) -> None:
        """Send a piece of the body; returns when there is room for the next, or nobody to read."""
        if piece and self.head.method != b"HEAD":
            if self._chunked:
                piece = b"%x\r\n%b\r\n" % (len(piece), piece)
            self._connection.write(piece)
        await self._connection.drained()

    def write(self, piece: bytes) -> bool:
        """Write a piece of the body without waiting; whether there is room for the next.

        Where there is none, nothing may be written until `drained` returns.
        """
        if self._chunked:
            piece = b"%x\r\n%b\r\n" % (len(piece), piece)
        self._connection.write(piece)
        return self._connection.has_room

    @property
    def has_room(self) -> bool:
        """Whether more can be written without waiting."""
        return self._connection.has_room

    @property
    def unsent(self) -> int:
        """Bytes that were written and have not gone out."""
        return self._connection.transport.get_write_buffer_size()

    async def drained(self) -> None:
        """Return when there is room for the next piece, or nobody to read it."""
        await self._connection.drained()

    def finish(self) -> None:
        """End the answer that `start` began."""
        if self._chunked and self.head.method != b"HEAD":
            self._connection.write(b"0\r\n\r\n")
        self._connection.end_request()

    def abort(self) -> None:
        """Break the answer off, so that the client sees that something is missing."""
        self._connection.abort()

    def task(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run what answers this request; a stop waits for it, and cancels it at last."""
        task = self._connection.acceptor.task(coroutine)
        task.add_done_callback(self._task_ended)

    def hold(self, waiting: "asyncio.Future[Any]") -> None:
        """Say what the answer waits for; a stop waits for it too, and cancels it at last."""
        self._connection.acceptor.hold(waiting)

    def _task_ended(self, task: "asyncio.Task[None]") -> None:
        if task.cancelled():
            self.abort()
        elif error := task.exception():
            self.fail(error)


def _problem_headers(problem: Problem) -> bytes:
    return response.lines([("content-type", problems.CONTENT_TYPE), *problem.headers.items()])


def problem_answer(problem: Problem, *, keep_alive: bool, bodiless: bool) -> bytes:
    """Return the whole answer that says a problem."""
    body = problem.encode()
    headers = _problem_headers(problem) + b"content-length: %d\r\n" % len(body)
    head_bytes = response.head(problem.status, headers, keep_alive=keep_alive)
    return head_bytes + b"\r\n" + (b"" if bodiless else body)
