"""The front door: an ASGI application that authenticates every call and takes in what is posted.

Publishing needs the event loop, so it is served here; every other call goes to the Flask
application, in a pool of threads.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final
from urllib.parse import parse_qsl

import structlog

from appliance.api import problems
from appliance.api.auth import Bearer
from appliance.api.intake import Accepted, Form, Intake, Posted
from appliance.api.problems import Problem
from appliance.errors import ApplianceError, EncodingError, InputError, TooLargeError
from appliance.messages import check_topic

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

#: Paths that anyone may read: they tell whether to send, not what is stored.
_OPEN: Final = frozenset({"/healthz", "/readyz"})
_METHODS: Final = ["GET", "HEAD", "POST", "PUT"]
#: Headers whose value is an idempotency key, the first that is there counts.
_KEY_HEADERS: Final = (b"idempotency-key", b"webhook-id", b"x-github-delivery")
_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")
_WAIT: Final = re.compile(rb"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,9})", re.IGNORECASE)
#: Seconds that `Prefer: wait` may ask for; beyond, it is this.
_LONGEST_WAIT: Final = 60
#: Seconds for a body to arrive.
_BODY_TIMEOUT: Final = 60.0
#: Bytes and seconds for which what comes after a refusal is read and thrown away. A connection
#: closed with unread bytes is reset, and the client would never read why.
_DRAIN_BYTES: Final = 64 * 2**20
_DRAIN_SECONDS: Final = 5.0

_log: Any = structlog.get_logger(__name__)


class FrontDoor:
    """Authenticates, takes in, hands on."""

    def __init__(self, bearer: Bearer, intake: Intake, behind: Asgi) -> None:
        self._bearer = bearer
        self._intake = intake
        self._behind = behind

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one call."""
        path: str = scope["path"]
        headers = dict(scope["headers"])
        if not self._bearer.allows(headers.get(b"authorization")) and path not in _OPEN:
            await _refuse(problems.unauthorized(), _Body(headers, receive), send)
        elif not (path.startswith("/v1/topics/") and path.endswith("/messages")):
            await self._behind(scope, receive, send)
        elif scope["method"] in ("POST", "PUT"):
            await self._take_in(path[11:-9], scope["query_string"], headers, receive, send)
        elif scope["method"] in ("GET", "HEAD"):
            await self._behind(scope, receive, send)
        else:
            await _refuse(problems.method_not_allowed(_METHODS), _Body(headers, receive), send)

    async def _take_in(
        self, topic: str, query: bytes, headers: dict[bytes, bytes], receive: Receive, send: Send
    ) -> None:
        body = _Body(headers, receive)
        try:
            check_topic(topic)
            form = _form(query, headers)
            key, wait = _key(headers), _wait(headers)
            content = await body.read(self._intake.most_bytes(form))
            accepted = await self._intake.accept(Posted(topic, form, content, key, wait))
        except ApplianceError as error:
            await _refuse(problems.of(error), body, send)
        except TimeoutError:
            await _refuse(_TOO_SLOW, body, send)
        except _GoneError:
            return
        except Exception:  # noqa: BLE001  # whatever it is, the client gets an answer, we the log
            _log.exception("a request failed")
            await _refuse(problems.internal(), body, send)
        else:
            await _answer(accepted, wait, send)


class _Body:
    """A request's body: read within a bound, or what is left of it thrown away."""

    def __init__(self, headers: dict[bytes, bytes], receive: Receive) -> None:
        self._headers = headers
        self._receive = receive
        length = headers.get(b"content-length", b"0")
        #: A number of more digits than any limit of ours is as good as this one.
        self._announced = int(length) if len(length) < 18 else 10**18
        self.complete = not self._announced and b"transfer-encoding" not in headers

    async def read(self, most: int) -> bytes:
        """Return it, never holding more than `most` bytes and one read of the socket."""
        if self._headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
            raise EncodingError("compressed bodies are not taken; send it as it is")
        if self._announced > most:
            raise TooLargeError(f"the body has more than {most} bytes; nothing of it was kept")
        body = await self._next()
        if not self.complete:
            parts, size = [body], len(body)
            async with asyncio.timeout(_BODY_TIMEOUT):
                while not self.complete and size <= most:
                    parts.append(await self._next())
                    size += len(parts[-1])
            body = b"".join(parts)
        if len(body) > most:
            raise TooLargeError(f"the body has more than {most} bytes; nothing of it was kept")
        return body

    async def drain(self) -> None:
        """Read and throw away what still comes, within bounds."""
        size = 0
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                while not self.complete and size < _DRAIN_BYTES:
                    size += len(await self._next())
        except (TimeoutError, _GoneError):
            _log.debug("a refused request still sends, or is gone; closing")

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise _GoneError
        self.complete = not message.get("more_body", False)
        part: bytes = message["body"]
        return part


class _GoneError(Exception):
    """The client went away before its request was whole."""


_TOO_SLOW: Final = problems.of_status(
    408, "Too slow", f"the body did not arrive within {_BODY_TIMEOUT:.0f} seconds"
)


def _form(query: bytes, headers: dict[bytes, bytes]) -> Form:
    if query:
        try:
            parameters = parse_qsl(query.decode("ascii"), keep_blank_values=True, max_num_fields=8)
        except ValueError as error:
            raise InputError("the query can't be read") from error
        if parameters != [("split", "lines")]:
            raise InputError("the only parameter here is split=lines")
        return Form.LINES
    media_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    return Form.NDJSON if media_type == b"application/x-ndjson" else Form.WHOLE


def _key(headers: dict[bytes, bytes]) -> str | None:
    for name in _KEY_HEADERS:
        if name in headers:
            key = headers[name].decode("latin-1").strip()
            if len(key) > 1 and key[0] == key[-1] == '"':
                key = key[1:-1]
            if not _KEY.fullmatch(key):
                raise InputError(
                    f"{name.decode()}: expected 1 to 255 printable ASCII characters, no spaces"
                )
            return key
    return None


def _wait(headers: dict[bytes, bytes]) -> float | None:
    match = _WAIT.search(headers.get(b"prefer", b""))
    return float(min(int(match[1]), _LONGEST_WAIT)) if match else None


async def _answer(accepted: Accepted, wait: float | None, send: Send) -> None:
    body = accepted.encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
    ]
    if accepted.form is Form.WHOLE:
        headers.append((b"location", b"/v1/messages/" + accepted.first_id.encode()))
    if wait is not None:
        headers.append((b"preference-applied", b"wait=%d" % wait))
    status = 201 if accepted.stored and wait is not None else 202
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _refuse(problem: Problem, body: _Body, send: Send) -> None:
    """Answer a problem; what the client still sends is read to its end before closing."""
    content, whole = problem.encode(), body.complete
    headers = [
        (b"content-type", problems.CONTENT_TYPE.encode()),
        (b"content-length", b"%d" % len(content)),
        *((name.lower().encode(), value.encode()) for name, value in problem.headers.items()),
    ]
    if not whole:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": content, "more_body": not whole})
    if not whole:
        await body.drain()
        await send({"type": "http.response.body", "body": b"", "more_body": False})
