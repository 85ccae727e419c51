"""Publishing over HTTP: served on the connection itself, without ASGI.

A message costs the API little more than its HTTP, so what stands between the socket and the
publisher was most of it: a scope, a task and four dictionaries a request. Here a request is one
small object, an `Exchange`, that the parser feeds and the publisher's confirmation ends. What the
front door refuses is answered here too. Everything else takes uvicorn's own way to the application.
"""

import asyncio
from asyncio import Future, TimerHandle
from typing import Any, ClassVar, Final
from urllib.parse import unquote

import httptools
import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from appliance.api.http import problems
from appliance.api.http.connection import BoundedProtocol
from appliance.api.http.problems import Problem
from appliance.api.publish import head
from appliance.api.publish.head import Asked, FrontDoor
from appliance.api.publish.intake import Accepted, Intake, Order
from appliance.errors import ApplianceError

#: Seconds for a body to arrive.
_BODY_TIMEOUT: Final = 60.0
#: Bytes and seconds for which what comes after a refusal is read and thrown away. A connection
#: closed with unread bytes is reset, and the client would never read why.
_DRAIN_BYTES: Final = 64 * 2**20
_DRAIN_SECONDS: Final = 5.0
_TOO_SLOW: Final = problems.of_status(
    408, "Too slow", f"the body did not arrive within {_BODY_TIMEOUT:.0f} seconds"
)

_log: Any = structlog.get_logger(__name__)


class PublishingProtocol(BoundedProtocol):
    """A connection whose requests the door decides on; those to publish are served here."""

    def __init__(self, *args: Any, door: FrontDoor, intake: Intake, **named: Any) -> None:
        super().__init__(*args, **named)
        self.intake = intake
        self._door = door
        self._asked: Asked | None = None  # by the newest request

    def data_received(self, data: bytes) -> None:
        """Serve a request whose head is known by heart at once; parse any other."""
        if not self.between or self.refused or not self.idle:
            super().data_received(data)
        elif known := self._door.recall(data):
            self.head_complete()
            self.cycle = Exchange(self, known[0])
            self.cycle.take(known[1])
        else:
            before = self.requests
            super().data_received(data)
            if self.between and self.requests == before + 1:
                self._learn(data)
        if isinstance(self.cycle, Exchange):
            self.cycle.time_body()

    def _learn(self, data: bytes) -> None:
        """Learn the head of what was one whole request, where the next one may be like it."""
        if self._asked and self.cycle.keep_alive and not self.expect_100_continue:
            self._door.learn(data, self._asked)

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._asked = None

    def serve(self) -> None:
        """Let the door decide on the head that is complete."""
        method, url = self.parser.get_method(), httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        if "%" in path:
            path = unquote(path)
        self._asked = asked = self._door.decide(method, path, url.query or b"", self.headers)
        if asked is None:
            super().serve()
            return
        exchange = Exchange(
            self,
            asked.what,
            keep_alive=self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive(),
            more_body=asked.length != 0 or isinstance(asked.what, Order),
            expects=self.expect_100_continue,
            bodiless=method == b"HEAD",
        )
        idle, self.cycle = self.idle, exchange
        if idle:
            exchange.start()
        else:  # answers go out in the order of the questions
            self.flow.pause_reading()
            self.pipeline.appendleft((exchange, self.app))

    def on_part(self, part: bytes) -> None:
        """Give a piece of a body to whom it belongs to."""
        if isinstance(self.cycle, Exchange):
            self.cycle.feed(part)
        else:
            super().on_part(part)

    def on_end(self) -> None:
        """Tell that a body is whole."""
        if isinstance(self.cycle, Exchange):
            self.cycle.end()
        else:
            super().on_end()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        if isinstance(cycle, Exchange):
            # Not at once: a thousand refusals in a row would call one another.
            self.loop.call_soon(cycle.start)
        else:
            super()._start_asgi_task(cycle, app)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the timer of a body that will not come."""
        super().connection_lost(exc)
        if isinstance(self.cycle, Exchange):
            self.cycle.stop_timer()

    def task(self, coroutine: Any) -> asyncio.Task[Any]:
        """Run a coroutine that a stop waits for, and cancels when the time for that is over."""
        task = self.loop.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task


class Exchange:
    """One request that is served here, and its answer.

    It stands where uvicorn keeps what it calls a cycle, and has the names by which uvicorn knows
    one: `more_body`, `keep_alive`, `response_started`, `response_complete`, `disconnected`,
    `message_event`.
    """

    __slots__ = (
        "_accepted",
        "_bodiless",
        "_expects",
        "_line",
        "_parts",
        "_size",
        "_started",
        "_timer",
        "_wait",
        "_what",
        "disconnected",
        "keep_alive",
        "more_body",
        "response_complete",
        "response_started",
    )

    #: uvicorn sets it when something happens; nobody waits for it.
    message_event: ClassVar = asyncio.Event()

    def __init__(
        self,
        line: PublishingProtocol,
        what: Order | Problem,
        *,
        keep_alive: bool = True,
        more_body: bool = False,
        expects: bool = False,
        bodiless: bool = False,
    ) -> None:
        self._line = line
        self._what = what
        self._expects = expects  # to be told to go on, before it sends its body
        self._bodiless = bodiless  # what answers a HEAD has no body
        self._parts: list[bytes] = []
        self._size = 0
        self._started = False
        self._accepted: Accepted | None = None
        self._timer: TimerHandle | None = None
        self.keep_alive = keep_alive
        self.more_body = more_body
        self.response_started = self.response_complete = self.disconnected = False

    def start(self) -> None:
        """Begin: all that came before on this connection is answered."""
        self._started = True
        if isinstance(self._what, Problem):
            self._refuse(self._what)
        elif self._size > self._what.most_bytes:
            self._refuse(problems.of(head.too_large(self._what)))
        elif not self.more_body:
            self.take(b"".join(self._parts))
        elif self._expects:
            self._line.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.time_body()

    def feed(self, part: bytes) -> None:
        """Take a piece of the body, as long as it is within its bound."""
        self._size += len(part)
        if self.response_started:
            if self._size > _DRAIN_BYTES:
                self._finish()
        elif isinstance(self._what, Problem):
            pass  # and it will be said when its turn has come
        elif self._size <= self._what.most_bytes:
            self._parts.append(part)
        else:
            self._parts.clear()
            if self._started:
                self._refuse(problems.of(head.too_large(self._what)))

    def end(self) -> None:
        """Take the body, which is whole."""
        self.more_body = False
        if self.response_started:
            self._finish()
        elif self._started:
            self.take(self._parts[0] if len(self._parts) == 1 else b"".join(self._parts))

    def time_body(self) -> None:
        """Begin to time what is still to come; called when all that is here was read."""
        if self.more_body and self._started and self._timer is None and not self.response_complete:
            if self.response_started:
                self._timer = self._line.loop.call_later(_DRAIN_SECONDS, self._finish)
            else:
                self._timer = self._line.loop.call_later(_BODY_TIMEOUT, self._refuse, _TOO_SLOW)

    def take(self, body: bytes) -> None:
        """Have the whole body taken in; the answer follows when it is known."""
        self._started, self._parts, order = True, [], self._what
        self.stop_timer()
        assert isinstance(order, Order)  # noqa: S101  # a problem has been answered
        self._wait = order.wait_seconds
        outcome: Future[Any]
        try:
            if order.plain:
                self._accepted, outcome = self._line.intake.send(order, body)
            else:
                outcome = self._line.task(self._line.intake.accept(order, body))
        except Exception as error:  # noqa: BLE001  # whatever it is, the client gets an answer
            self._fail(error)
        else:
            outcome.add_done_callback(self._ended)

    def _ended(self, outcome: Future[Any]) -> None:
        """Answer what became of it."""
        if outcome.cancelled():
            self._line.transport.close()
        elif error := outcome.exception():
            self._fail(error)
        else:
            self.response_started = True
            self._reply(*head.answer(self._accepted or outcome.result(), self._wait))
            self._finish()

    def _fail(self, error: BaseException) -> None:
        if isinstance(error, ApplianceError):
            self._refuse(problems.of(error))
        else:
            _log.error("a request failed", exc_info=error)
            self._refuse(problems.internal())

    def _refuse(self, problem: Problem) -> None:
        """Answer a problem; what the client still sends is read to its end before closing."""
        if self.response_complete:
            return
        self.stop_timer()
        self.response_started, self._size = True, 0
        self._parts.clear()
        if self.more_body:
            self.keep_alive = False
        self._reply(*head.refusal(problem))
        if not self.more_body:
            self._finish()

    def _reply(self, status: int, headers: bytes, body: bytes) -> None:
        self._line.write(
            b"%b%bcontent-length: %d\r\n%b%b\r\n%b"
            % (
                STATUS_LINE[status],
                self._line.date,
                len(body),
                headers,
                b"" if self.keep_alive else b"connection: close\r\n",
                b"" if self._bodiless else body,
            )
        )

    def _finish(self) -> None:
        self.stop_timer()
        if self.response_complete:
            return
        self.response_complete = True
        if not self.keep_alive:
            self._line.transport.close()
        self._line.on_response_complete()

    def stop_timer(self) -> None:
        """End to time the body."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
