"""Serves the Flask application behind the front door: WSGI in a pool of threads.

A thread is held only while Python works: to make a small answer whole, or one piece of a large one.
While a client reads, slowly or not at all, its export is a waiting coroutine, so a dozen of them
don't keep a health check from being answered; and an export whose client has gone ends.
"""

import asyncio
import contextvars
import io
import sys
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import structlog
from flask import Flask

from appliance.api.http import problems
from appliance.api.http.problems import Problem
from appliance.errors import TooLargeError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

#: Bytes of a request's body. What is large is published, and does not come here.
_MOST_BODY_BYTES: Final = 64 * 1024
#: Seconds for such a body to arrive.
_BODY_TIMEOUT: Final = 10.0
#: Bytes of an answer of known length that is made whole; a larger one is sent piece by piece.
_MOST_WHOLE: Final = 16 * 2**20
#: Exports at once; each holds one piece, up to a megabyte as a rule.
_MOST_STREAMS: Final = 32

_BUSY: Final = problems.of_status(503, "Too many exports", "wait until another one has ended")
_SLOW: Final = problems.of_status(
    408, "Too slow", f"the body did not arrive within {_BODY_TIMEOUT:.0f} seconds"
)

_log: Any = structlog.get_logger(__name__)


@dataclass
class _Answer:
    """What the application answered: whole where it is small, else piece by piece."""

    status: int
    headers: list[tuple[bytes, bytes]]
    whole: bytes | None
    pieces: Iterator[bytes]
    close: Callable[[], None]


class Bridge:
    """An ASGI application that calls `app` in up to `threads` threads."""

    def __init__(self, app: Flask, threads: int) -> None:
        self._app = app
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="flask")
        self._streams = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one call."""
        try:
            async with asyncio.timeout(_BODY_TIMEOUT):
                body = await _read(receive)
        except TimeoutError:
            await _send_problem(_SLOW, send)
            return
        except TooLargeError as error:
            await _send_problem(problems.of(error), send)
            return
        if body is None:
            return
        answer = await self._in_thread(self._call, _environ(scope, body))
        if answer.whole is not None:
            await _send_whole(answer.status, answer.headers, answer.whole, send)
            return
        try:
            if self._streams >= _MOST_STREAMS:
                await _send_problem(_BUSY, send)
                return
            self._streams += 1
            try:
                await self._stream(answer, receive, send)
            finally:
                self._streams -= 1
        finally:
            await self._in_thread(answer.close)

    async def _stream(self, answer: _Answer, receive: Receive, send: Send) -> None:
        """Send piece by piece, until the end or until nobody is there any more.

        Raises what the application raises on the way: the connection is then closed without the
        last chunk, which tells the client that something is missing.
        """
        gone = asyncio.create_task(_gone(receive))
        try:
            await send(
                {
                    "type": "http.response.start",
                    "status": answer.status,
                    "headers": answer.headers,
                }
            )
            while not gone.done():
                piece = await self._in_thread(next, answer.pieces, None)
                more = piece is not None
                await send({"type": "http.response.body", "body": piece or b"", "more_body": more})
                if not more:
                    break
        finally:
            gone.cancel()

    async def _in_thread(self, call: Callable[..., Any], *values: Any) -> Any:
        # What was bound to the context, for the log, goes along.
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, context.run, call, *values)

    def _call(self, environ: dict[str, Any]) -> _Answer:
        started: list[Any] = []

        def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> Any:
            started[:] = [status, headers]

        result: Any = self._app(environ, start_response)
        status, headers = int(started[0].split(" ", 1)[0]), _lower(started[1])
        close = getattr(result, "close", lambda: None)
        length = next((int(value) for name, value in headers if name == b"content-length"), None)
        if length is not None and length <= _MOST_WHOLE:
            try:
                return _Answer(status, headers, b"".join(result), iter(()), close)
            finally:
                close()
        return _Answer(status, headers, None, iter(result), close)


def _lower(headers: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]


async def _read(receive: Receive) -> bytes | None:
    """Return the request's body; None where the client has gone."""
    body: bytes = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if len(body) > _MOST_BODY_BYTES:
            raise TooLargeError(f"a body has at most {_MOST_BODY_BYTES} bytes here")
        if not message.get("more_body", False):
            return body


async def _gone(receive: Receive) -> None:
    """Return when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send_whole(
    status: int, headers: list[tuple[bytes, bytes]], body: bytes, send: Send
) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _send_problem(problem: Problem, send: Send) -> None:
    body = problem.encode()
    headers = [
        ("content-type", problems.CONTENT_TYPE),
        ("content-length", str(len(body))),
        ("connection", "close"),
        *problem.headers.items(),
    ]
    await _send_whole(problem.status, _lower(headers), body, send)


def _environ(scope: Scope, body: bytes) -> dict[str, Any]:
    """Return the request as WSGI (PEP 3333) wants it: bytes as text of the same numbers."""
    client, server = scope.get("client") or ("", 0), scope.get("server") or ("", 0)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        # The very path that the front door decided on.
        "PATH_INFO": scope["path"].encode("utf-8", "replace").decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": server[0] or "localhost",
        "SERVER_PORT": str(server[1] or 80),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "REMOTE_ADDR": client[0],
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.get("scheme", "http"),
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        if "_" in name or name == "content-length":
            continue  # an underscore would pass for a dash; the length is that of what was read
        key = "CONTENT_TYPE" if name == "content-type" else f"HTTP_{name.upper().replace('-', '_')}"
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    return environ
