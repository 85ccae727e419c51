"""Serve the front door with uvicorn, until told to stop."""

import asyncio
import contextlib
import resource
import signal
import socket
from asyncio import TimerHandle, Transport
from collections.abc import Iterator
from typing import Any, Final

import structlog
import uvicorn
import uvloop
from a2wsgi import WSGIMiddleware
from flask import Flask
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from appliance import credentials
from appliance.api import problems
from appliance.api.auth import Bearer
from appliance.api.front import Asgi, FrontDoor
from appliance.api.intake import Intake
from appliance.broker.publisher import Publisher
from appliance.config import Config
from appliance.errors import ConfigError
from appliance.store.watch import Watch

#: Connections at once; more are answered 503. Each costs some kilobytes and a file.
_MOST_CONNECTIONS: Final = 4096
#: Bytes of a request's line and headers.
_MOST_HEAD_BYTES: Final = 32 * 1024
#: Seconds for a request's head to arrive, from its first byte or the connection's begin.
_HEAD_TIMEOUT: Final = 15.0
#: Seconds a connection may be idle between requests; longer than most clients' pools keep one.
_KEEP_ALIVE: Final = 75
#: Seconds that a stop waits for the requests under way.
_GRACE: Final = 7
#: Threads for what Flask serves.
_FLASK_THREADS: Final = 8

_log: Any = structlog.get_logger(__name__)


def serve(config: Config, publisher: Publisher, watch: Watch, app: Flask) -> None:
    """Serve until SIGTERM or SIGINT; then answer what is under way and end.

    Raises ConfigError where the address can't be listened on.
    """
    _allow_files(2 * _MOST_CONNECTIONS)
    uvloop.run(_serve(config, publisher, watch, app))


async def _serve(config: Config, publisher: Publisher, watch: Watch, app: Flask) -> None:
    intake = Intake(config, publisher, watch)
    # a2wsgi's types know only its own Scope; the calls are the same.
    behind: Asgi = WSGIMiddleware(app, workers=_FLASK_THREADS)  # type: ignore[assignment,arg-type]
    front = FrontDoor(Bearer(credentials.token(config)), intake, behind)
    listener = _listen(config)
    server = _Server(
        uvicorn.Config(
            front,
            http=_Protocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            proxy_headers=False,
            server_header=False,
            access_log=False,
            log_config=None,
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=_GRACE,
        )
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    publishing = asyncio.create_task(publisher.run())
    publishing.add_done_callback(lambda _: server.stop())
    _log.info("listening", address=str(config.http))
    await server.serve(sockets=[listener])
    publisher.stop()
    await publishing
    watch.close()


def _listen(config: Config) -> socket.socket:
    host, port = config.http
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigError(
            f"APPLIANCE_HTTP: can't listen on {config.http}: {error.strerror}"
        ) from error


def _allow_files(wanted: int) -> None:
    """Raise the soft limit of open files: each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


class _Server(uvicorn.Server):
    """uvicorn's server, ended by us: its own handlers raise the signal again when all is done,
    and a clean stop would look like a death by signal.
    """  # noqa: D205

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def stop(self) -> None:
        self.should_exit = True


class _Protocol(HttpToolsProtocol):
    """uvicorn's protocol, with bounds: connections, a head's bytes and the time it may take."""

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_bytes = 0
        self._in_head = True
        self._head_timer: TimerHandle | None = self.loop.call_later(_HEAD_TIMEOUT, transport.close)
        if len(self.connections) > _MOST_CONNECTIONS:
            self._refuse(
                problems.of_status(503, "Too many connections", "come again in a moment"),
                "retry-after: 1\r\n",
            )

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_timer()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_head and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_timer is None:
                self._head_timer = self.loop.call_later(_HEAD_TIMEOUT, self.transport.close)
            if self._head_bytes > _MOST_HEAD_BYTES:
                limit = f"a request's head may have {_MOST_HEAD_BYTES} bytes"
                self._refuse(problems.of_status(431, "Headers too large", limit))

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, problem: problems.Problem, more: str = "") -> None:
        body = problem.encode()
        head = (
            f"HTTP/1.1 {problem.status} {problem.title}\r\n"
            f"content-type: {problems.CONTENT_TYPE}\r\n"
            f"content-length: {len(body)}\r\n"
            f"connection: close\r\n{more}\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
