"""Serve HTTP with uvicorn, until told to stop."""

import asyncio
import contextlib
import functools
import gc
import resource
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any, Final

import structlog
import uvicorn
import uvloop
from flask import Flask

from appliance import credentials
from appliance.api.http.connection import MOST_CONNECTIONS
from appliance.api.http.wsgi import Bridge
from appliance.api.publish.head import FrontDoor
from appliance.api.publish.intake import Intake
from appliance.api.publish.route import PublishingProtocol
from appliance.auth.bearer import Bearer
from appliance.broker.publish.publisher import Publisher
from appliance.config import Config
from appliance.errors import ConfigError, StoreError
from appliance.machine import disk_space
from appliance.machine.pulse import BEAT_SECONDS, Pulse
from appliance.store.sqlite.commits import Watch

#: Seconds a connection may be idle between requests; longer than most clients' pools keep one.
_KEEP_ALIVE: Final = 75
#: Seconds that a stop waits for the requests under way.
_GRACE: Final = 7
#: Seconds between two looks at the disks; what can come in meanwhile fits far below the floor.
_ROOM_SECONDS: Final = 0.5
#: Threads for what Flask serves.
_FLASK_THREADS: Final = 8

_log: Any = structlog.get_logger(__name__)


def serve(
    config: Config,
    publisher: Publisher,
    watch: Watch,
    app: Flask,
    pulse: Pulse,
    *,
    stopping: threading.Event,
) -> None:
    """Serve until SIGTERM or SIGINT; then set `stopping`, answer what is under way and end.

    Raises ConfigError where the address can't be listened on.
    """
    # What is loaded now stays; the collector need not look at it again and again under load.
    gc.freeze()
    _allow_files(2 * MOST_CONNECTIONS)
    uvloop.run(_serve(config, publisher, watch, app, pulse, stopping=stopping))


async def _serve(
    config: Config,
    publisher: Publisher,
    watch: Watch,
    app: Flask,
    pulse: Pulse,
    *,
    stopping: threading.Event,
) -> None:
    intake = Intake(config, publisher, watch)
    door = FrontDoor(config, Bearer(credentials.token(config)))
    listener = _listen(config)
    server = _Server(
        uvicorn.Config(
            Bridge(app, _FLASK_THREADS),
            http=functools.partial(PublishingProtocol, door=door, intake=intake),  # type: ignore[arg-type]
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

    def stop() -> None:
        stopping.set()
        server.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    publishing = asyncio.create_task(publisher.run())
    publishing.add_done_callback(lambda _: server.stop())
    living = [
        asyncio.create_task(_live(publisher, pulse)),
        asyncio.create_task(_watch_room(config, publisher)),
    ]
    _log.info("listening", address=str(config.http))
    await server.serve(sockets=[listener])
    pulse.stopping()
    for task in living:
        task.cancel()
    await publisher.stop()
    await publishing
    watch.close()


async def _live(publisher: Publisher, pulse: Pulse) -> None:
    """Beat for the event loop; ready is who could publish."""
    while True:
        pulse.beat()
        state = publisher.state()
        if state.accepting:
            pulse.ready()  # also while a disk is below its floor: it answers, and goes on by itself
        if publisher.refusal:
            pulse.status(f"refusing: {publisher.refusal}")
        elif state.accepting:
            pulse.status(f"accepting; {state.depth or 0} envelopes in the queue")
        else:
            pulse.status(f"not accepting: {state.reason}")
        await asyncio.sleep(BEAT_SECONDS)


async def _watch_room(config: Config, publisher: Publisher) -> None:
    """Refuse while a disk is below its floor: looked at now and then, not for each message.

    In a thread, because a disk that hangs holds whoever asks it.
    """
    told = ""
    while True:
        try:
            lacking = await asyncio.to_thread(disk_space.lacking, config)
        except StoreError:
            lacking = "the data's disk can't be asked for its free space"
        publisher.refuse(lacking)
        if bool(lacking) != bool(told):
            if lacking:
                _log.warning("refusing messages", reason=lacking)
            else:
                _log.info("accepting messages again: there is room")
        told = lacking
        await asyncio.sleep(_ROOM_SECONDS)


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
