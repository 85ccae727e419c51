"""Serve the front door with uvicorn, until told to stop."""

import asyncio
import contextlib
import gc
import resource
import signal
import socket
from collections.abc import Iterator
from typing import Any, Final

import structlog
import uvicorn
import uvloop
from flask import Flask

from appliance import credentials
from appliance.api.auth import Bearer
from appliance.api.bridge import Bridge
from appliance.api.front import FrontDoor
from appliance.api.intake import Intake
from appliance.api.protocol import MOST_CONNECTIONS, BoundedProtocol
from appliance.broker.publisher import Publisher
from appliance.config import Config
from appliance.errors import ConfigError
from appliance.store.watch import Watch

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
    # What is loaded now stays; the collector need not look at it again and again under load.
    gc.freeze()
    _allow_files(2 * MOST_CONNECTIONS)
    uvloop.run(_serve(config, publisher, watch, app))


async def _serve(config: Config, publisher: Publisher, watch: Watch, app: Flask) -> None:
    intake = Intake(config, publisher, watch)
    front = FrontDoor(Bearer(credentials.token(config)), intake, Bridge(app, _FLASK_THREADS))
    listener = _listen(config)
    server = _Server(
        uvicorn.Config(
            front,
            http=BoundedProtocol,
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
