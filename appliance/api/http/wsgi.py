"""Serves the Flask application: WSGI in a pool of threads.

A thread is held only while Python works: to make a small answer whole, or one piece of a large one.
While a client reads, slowly or not at all, its export is a waiting coroutine, so a dozen of them
don't keep a health check from being answered; and an export whose client has gone ends.
"""

import asyncio
import contextvars
import io
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from flask import Flask

from appliance.api.http import problems, response
from appliance.api.http.request import Request
from appliance.auth.principal import Principal

#: Bytes of an answer of known length that is made whole; a larger one is sent piece by piece.
_MOST_WHOLE: Final = 16 * 2**20
#: Exports at once; each holds one piece, up to a megabyte as a rule.
_MOST_STREAMS: Final = 32

_BUSY: Final = problems.of_status(503, "Too many exports", "wait until another one has ended")


#: A whole answer: its status, its headers (without its length, each ended by CRLF), its body.
WholeAnswer = tuple[int, bytes, bytes]


@dataclass
class _Answer:
    """The application's answer: whole where it is small, else piece by piece."""

    status: int
    headers: list[tuple[str, str]]
    whole: bytes | None
    pieces: Iterator[bytes]
    close: Callable[[], None]


class WsgiBridge:
    """Calls `app` in up to `threads` threads.

    `holds` says whether a principal may still do what it could when its request came.
    """

    body_seconds: Final = 10.0
    #: Bytes of a request's body. A large body is published, and does not come here.
    max_body_bytes: Final = 64 * 1024

    def __init__(
        self, app: Flask, threads: int, holds: Callable[[Principal], bool] = lambda _: True
    ) -> None:
        self._app = app
        self._holds = holds
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="flask")
        self._streams = 0

    def handle(self, request: Request, body: bytes) -> None:
        """Answer one request."""
        request.task(self._serve(request, body))

    async def ask(self, request: Request) -> WholeAnswer:
        """Return the application's answer to a GET, for this request and others like it."""
        answer = await self._in_thread(
            self._call, _environ(request, b"") | {"REQUEST_METHOD": "GET"}
        )
        return answer.status, _headers(answer), answer.whole or b""

    async def _serve(self, request: Request, body: bytes) -> None:
        answer = await self._in_thread(self._call, _environ(request, body))
        if answer.whole is not None:
            request.respond(answer.status, _headers(answer), answer.whole)
            return
        try:
            if self._streams >= _MOST_STREAMS:
                request.refuse(_BUSY)
                return
            self._streams += 1
            try:
                await self._stream(request, answer)
            finally:
                self._streams -= 1
        finally:
            await self._in_thread(answer.close)

    async def _stream(self, request: Request, answer: _Answer) -> None:
        """Send piece by piece, until the end or until nobody is there who may read it.

        Raises what the application raises on the way: the connection is then closed without the
        last chunk, which tells the client that something is missing.
        """
        request.start(answer.status, response.lines(answer.headers))
        while not request.has_gone:
            if not self._holds(request.admission.principal):
                request.abort()  # its token was revoked meanwhile
                return
            piece = await self._in_thread(next, answer.pieces, None)
            if piece is None:
                request.finish()
                return
            await request.send(piece)

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
        status, headers = int(started[0].split(" ", 1)[0]), started[1]
        close = getattr(result, "close", lambda: None)
        length = next((int(v) for name, v in headers if name.lower() == "content-length"), None)
        if status in response.BODILESS:
            length = 0
        if length is not None and length <= _MOST_WHOLE:
            try:
                return _Answer(status, headers, b"".join(result), iter(()), close)
            finally:
                close()
        return _Answer(status, headers, None, iter(result), close)


def _headers(answer: _Answer) -> bytes:
    return response.lines(each for each in answer.headers if each[0].lower() != "content-length")


def _environ(request: Request, body: bytes) -> dict[str, Any]:
    """Return the request as WSGI (PEP 3333) wants it: bytes as text of the same numbers."""
    head = request.head
    server, origin = request.server_address, request.origin
    environ: dict[str, Any] = {
        "REQUEST_METHOD": head.method.decode("ascii"),
        "SCRIPT_NAME": origin.prefix,
        # The very path that the gate decided on.
        "PATH_INFO": head.path.encode("utf-8", "replace").decode("latin-1"),
        "QUERY_STRING": head.query.decode("latin-1"),
        "SERVER_NAME": server[0] if server else "localhost",
        "SERVER_PORT": str(server[1] if server else 80),
        "SERVER_PROTOCOL": f"HTTP/{head.version}",
        "REMOTE_ADDR": request.client_address,
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": origin.scheme,
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "appliance.principal": request.admission.principal,
    }
    for raw_name, raw_value in head.headers:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        if "_" in name or name == "content-length":
            continue  # an underscore would pass for a dash; the length is that of what was read
        key = "CONTENT_TYPE" if name == "content-type" else f"HTTP_{name.upper().replace('-', '_')}"
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    if origin.host:
        environ["HTTP_HOST"] = origin.host
    return environ
