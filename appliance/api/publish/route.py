"""POST /v1/topics/{topic}/messages: served on the event loop, without a thread or a task.

A message costs the API little more than its HTTP: a request is one small object, which the
publisher's confirmation answers.
"""

from asyncio import Future
from dataclasses import replace
from functools import partial
from typing import Any, Final

from appliance.api.bodies.decoding import Decoded
from appliance.api.http import problems
from appliance.api.http.head import Head
from appliance.api.http.problems import Problem
from appliance.api.http.request import Admission, Request
from appliance.api.publish import publish_options
from appliance.api.publish.handler_answer import handler_answer
from appliance.api.publish.idempotency import KeyedAttempt
from appliance.api.publish.intake import Intake
from appliance.api.publish.publish_options import PublishOptions
from appliance.api.publish.receipt import Receipt
from appliance.auth.principal import Principal, Right
from appliance.config import Config
from appliance.errors import ApplianceError
from appliance.schemas.book import SchemaBook

_PREFIX: Final = "/v1/topics/"
_SUFFIX: Final = "/messages"
_METHODS: Final = ["GET", "HEAD", "POST", "PUT"]


class PublishRoute:
    """Takes messages in."""

    body_seconds: Final = 60.0

    def __init__(self, config: Config, intake: Intake, book: SchemaBook) -> None:
        self._config = config
        self._book = book
        self.intake = intake

    @staticmethod
    def serves(head: Head) -> bool:
        """Whether a request with this head is for this route."""
        path = head.path
        return (
            path.startswith(_PREFIX)
            and path.endswith(_SUFFIX)
            and head.method not in (b"GET", b"HEAD", b"DELETE")
        )

    def admit(self, head: Head, principal: Principal) -> Admission | Problem:
        """Return what the head asks for, or why it gets nothing."""
        if head.method not in (b"POST", b"PUT"):
            return problems.method_not_allowed(_METHODS)
        try:
            wanted = publish_options.read(
                head, head.path[len(_PREFIX) : -len(_SUFFIX)], principal, self._config
            )
        except ApplianceError as error:
            if not principal.may(Right.PUBLISH):
                return problems.forbidden(f"{principal.name} has no right to publish")
            return problems.of(error)
        if not principal.may(Right.PUBLISH, wanted.topic):
            return problems.forbidden(f"{principal.name} has no right to publish to this topic")
        if self._book.of(wanted.topic) is not None:
            wanted = replace(wanted, has_schema=True)
        return Admission(self, principal, wanted.max_body_bytes, wanted)

    def handle(self, request: Request, body: bytes) -> None:
        """Publish the body; the answer follows when the broker has it on disk."""
        wanted: PublishOptions = request.admission.details
        unless = wanted.plain_unless
        if (
            unless is not None
            and body[:1] not in unless
            and (not wanted.says_utf8 or _is_utf8(body))
        ):
            if wanted.key is None:
                sent = _Sent(self, request, wanted.wait_seconds)
                sent.receipt = self.intake.send(wanted, body, _meta(request, wanted), sent)
                return
            first = self.intake.first_attempt(wanted, body) if body else None
            if first is not None:
                attempt, is_used = first
                is_used.add_done_callback(_SentOnce(self, request, attempt, body).go_on)
                return
        elif wanted.is_lines:
            receipt, confirmed = self.intake.send_lines(wanted, body, _meta(request, wanted))
            confirmed.add_done_callback(partial(_answer, request, receipt))
            return
        request.task(self._accept(request, wanted, body))

    def await_row(self, request: Request, receipt: Receipt, seconds: float) -> None:
        """Answer once the message is a row, or when the sender waits no longer."""
        is_stored = self.intake.row_of(receipt, seconds)
        request.hold(is_stored)
        is_stored.add_done_callback(partial(_answer_waiting, request, receipt, seconds))

    async def _accept(self, request: Request, wanted: PublishOptions, body: bytes) -> None:
        receipt = await self.intake.accept(wanted, body, _meta(request, wanted))
        del body
        await self._answer_accepted(request, wanted, receipt)

    async def repeat(self, request: Request, attempt: KeyedAttempt, body: bytes) -> None:
        """Answer a request whose key has messages already: they may be the same, or others."""
        wanted: PublishOptions = request.admission.details
        try:
            receipt = await self.intake.publish_unless_stored(
                wanted, Decoded([body]), _meta(request, wanted), attempt.prefix
            )
        except BaseException as error:
            attempt.fail(error)
            raise
        attempt.succeed(receipt)
        await self._answer_accepted(request, wanted, receipt)

    async def _answer_accepted(
        self, request: Request, wanted: PublishOptions, receipt: Receipt
    ) -> None:
        receipt = await self.intake.stored(receipt, wanted.wait_seconds)
        if wanted.waits_for_handler and receipt.is_stored:
            reply = await self.intake.reply(receipt)
            if reply is not None:
                principal = request.admission.principal
                request.respond(
                    *handler_answer(
                        receipt, reply, principal, wanted.wait_seconds or 0, request.prefix
                    )
                )
                return
        request.respond(*receipt.answer(wanted.wait_seconds, request.prefix))


class _Sent:
    """A request whose one message was sent: the publisher's waiter, which answers it.

    A future would have its callback wait for a turn of the event loop, which costs more than the
    answer.
    """

    __slots__ = ("_request", "_route", "_seconds", "receipt")

    receipt: Receipt

    def __init__(self, route: PublishRoute, request: Request, seconds: float | None) -> None:
        self._route = route
        self._request = request
        self._seconds = seconds

    @staticmethod
    def done() -> bool:
        """Whether nobody waits any more; an answer to a client that has gone goes nowhere."""
        return False

    def set_result(self, _: None, /) -> None:
        """Answer, or wait for the row as the sender asked for: the broker has the message."""
        request, seconds = self._request, self._seconds
        try:
            if seconds:
                self._route.await_row(request, self.receipt, seconds)
            else:
                status, headers, body = self.receipt.answer(seconds, request.prefix)
                request.respond(status, headers, body)
        except Exception as error:  # noqa: BLE001  # the others of its envelope are answered too
            request.fail(error)

    def set_exception(self, error: Exception, /) -> None:
        """Answer that it isn't kept, or may not be."""
        try:
            self._request.fail(error)
        except Exception as fault:  # noqa: BLE001
            self._request.fail(fault)


class _SentOnce(_Sent):
    """The same with a key, whose message is sent where none with that key is stored."""

    __slots__ = ("_attempt", "_body")

    def __init__(
        self, route: PublishRoute, request: Request, attempt: KeyedAttempt, body: bytes
    ) -> None:
        super().__init__(route, request, request.admission.details.wait_seconds)
        self._attempt = attempt
        self._body = body

    def go_on(self, is_used: Future[bool]) -> None:
        """Send the message; where the key was used, see for what."""
        request, route, attempt = self._request, self._route, self._attempt
        try:
            if is_used.result():
                request.task(route.repeat(request, attempt, self._body))
                return
            wanted = request.admission.details
            self.receipt = route.intake.send(
                wanted, self._body, _meta(request, wanted), self, attempt.prefix
            )
        except Exception as error:  # noqa: BLE001  # whatever it is, the client gets an answer
            self.set_exception(error)

    def set_result(self, _: None, /) -> None:
        """Answer, and tell those who sent the same meanwhile."""
        self._attempt.succeed(self.receipt)
        super().set_result(None)

    def set_exception(self, error: Exception, /) -> None:
        """Answer that it isn't kept, and tell the others so."""
        self._attempt.fail(error)
        super().set_exception(error)


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _meta(request: Request, wanted: PublishOptions) -> str | None:
    """Return the meta of the request's messages."""
    around = wanted.around
    if around.is_empty:
        return None
    return around.text(
        request.client_address, token=request.admission.principal.name, topic=wanted.named
    )


def _answer_waiting(
    request: Request, receipt: Receipt, seconds: float, is_stored: Future[bool]
) -> None:
    """Answer; also where a stop could wait no longer, because the message is on disk."""
    stored = not is_stored.cancelled() and is_stored.result()
    request.respond(*receipt._replace(is_stored=stored).answer(seconds, request.prefix))


def _answer(request: Request, receipt: Receipt, confirmed: Future[Any]) -> None:
    if confirmed.cancelled():
        request.abort()
    elif error := confirmed.exception():
        request.fail(error)
    else:
        request.respond(*receipt.answer(None, request.prefix))
