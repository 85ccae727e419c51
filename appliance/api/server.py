"""The API's process: serves HTTP until told to stop."""

import asyncio
import gc
import signal
import sys
import threading
from typing import Any, Final

import structlog
import uvloop
from flask import Flask

from appliance.api import space_watch
from appliance.api.gate import Gate
from appliance.api.http.acceptor import Acceptor, allow_files, listen
from appliance.api.http.proxies import Proxies
from appliance.api.http.tls import Certificate
from appliance.api.http.wsgi import WsgiBridge
from appliance.api.inbox.inbox_route import InboxRoute
from appliance.api.open_addresses import OpenAddresses
from appliance.api.publish.intake import Intake
from appliance.api.publish.route import PublishRoute
from appliance.api.pull.pull_hub import PullHub
from appliance.api.pull.pull_route import PullRoute
from appliance.api.quarantine.door import QuarantineDoor
from appliance.api.stream.hub import StreamHub
from appliance.api.stream.stream_route import StreamRoute
from appliance.auth.authorizer import Authorizer
from appliance.auth.refusal_counts import REPORT_SECONDS, Refusals
from appliance.broker.base import STALL_FACT, Publisher
from appliance.config import Config
from appliance.machine import ports
from appliance.machine.pulse import BEAT_SECONDS, Pulse
from appliance.machine.ticks import tick
from appliance.schemas.book import SchemaBook
from appliance.store.base import Commits

#: Seconds that a stop waits for the requests under way.
_GRACE_SECONDS: Final = 7.0
#: Seconds between two looks for a renewed certificate.
_RENEW_SECONDS: Final = 2.0
#: Threads for what Flask serves to those who are let in; strangers have one, health checks another.
_FLASK_THREADS: Final = 8

#: Seconds for which a thread can keep the event loop waiting; by default it is 5 ms, of which every
#: request would have to wait several while pages are made.
_SWITCH_SECONDS: Final = 0.001

_log: Any = structlog.get_logger(__name__)


def serve(
    config: Config,
    authorizer: Authorizer,
    publisher: Publisher,
    commits: Commits,
    app: Flask,
    book: SchemaBook,
    door: QuarantineDoor,
    streams: StreamHub,
    pulls: PullHub,
    *,
    pulse: Pulse,
    stopping: threading.Event,
) -> None:
    """Serve until SIGTERM or SIGINT; then set `stopping`, answer what is under way and end.

    Raises OccupiedError or ConfigError where the address can't be listened on.
    """
    # What is loaded now stays; the collector need not look at it again and again under load.
    gc.freeze()
    sys.setswitchinterval(_SWITCH_SECONDS)
    serving = _serve(
        config, authorizer, publisher, commits, app, book, door, streams, pulls,
        pulse=pulse, stopping=stopping,
    )  # fmt: skip
    with space_watch.watching(config, publisher.refuse):
        uvloop.run(serving)


async def _serve(
    config: Config,
    authorizer: Authorizer,
    publisher: Publisher,
    commits: Commits,
    app: Flask,
    book: SchemaBook,
    door: QuarantineDoor,
    streams: StreamHub,
    pulls: PullHub,
    *,
    pulse: Pulse,
    stopping: threading.Event,
) -> None:
    proxies = Proxies(config.trusted_proxies, config.public_url)
    intake = Intake(config, publisher, commits, book, door)
    gate = Gate(
        authorizer,
        OpenAddresses(WsgiBridge(app, 1), WsgiBridge(app, 1).ask),
        PublishRoute(config, intake, book),
        InboxRoute(config, intake, authorizer),
        StreamRoute(streams),
        WsgiBridge(app, _FLASK_THREADS, authorizer.holds),
        proxies.prefix,
        PullRoute(pulls),
    )
    certificate = None
    if config.tls_cert and config.tls_key:
        certificate = Certificate(config.tls_cert, config.tls_key)
    is_shared = config.api_processes > 1
    listener = listen("APPLIANCE_HTTP", config.http, shared=is_shared)
    loop, stop = asyncio.get_running_loop(), asyncio.Event()

    def stop_soon() -> None:
        stopping.set()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop_soon)
    publishing = asyncio.create_task(publisher.run())
    publishing.add_done_callback(lambda _: stop.set())
    living = [
        asyncio.create_task(_live(publisher, pulse)),
        asyncio.create_task(_report(authorizer.refusals)),
        asyncio.create_task(_stop_streams(stop, streams, pulls)),
    ]
    if certificate:
        living.append(asyncio.create_task(_renew(certificate)))
    reach = "others too" if ports.is_open_to_others(config.http) else "this machine"
    _log.info("listening", address=str(config.http), tls=bool(certificate), reached_by=reach)
    acceptor = Acceptor(
        gate,
        proxies,
        allow_files(),
        most_bytes=config.api_bodies_bytes,
        certificate=certificate,
    )
    await acceptor.serve(listener, stop, _GRACE_SECONDS, shared=is_shared)
    pulse.stopping()
    for task in living:
        task.cancel()
    authorizer.refusals.report()
    await publisher.stop()
    await publishing
    streams.close()
    pulls.close()
    commits.close()


async def _stop_streams(stop: asyncio.Event, streams: StreamHub, pulls: PullHub) -> None:
    """End the streams at once when the process is to stop: they would not end by themselves.

    Consumers that wait are answered that there is nothing.
    """
    await stop.wait()
    streams.stop()
    pulls.stop()


async def _renew(certificate: Certificate) -> None:
    """Take up a renewed certificate; in a thread, because its disk may hang."""
    while True:
        await asyncio.sleep(_RENEW_SECONDS)
        await asyncio.to_thread(certificate.renew)


async def _live(publisher: Publisher, pulse: Pulse) -> None:
    """Beat for the event loop; it is ready once it can publish."""
    told = 0
    while True:
        pulse.beat()
        state = publisher.state()
        # For the probe, whose own queue may serve while this one does not.
        seconds = int(state.stalled_seconds)
        if seconds != told:
            pulse.tell(STALL_FACT, {"seconds": seconds, "reason": state.stalled})
            told = seconds
        if state.accepting:
            pulse.ready()  # also while a disk is below its floor: it answers, and goes on by itself
        if publisher.refusal:
            pulse.status(f"refusing: {publisher.refusal}")
        elif state.accepting:
            pulse.status(f"accepting; {state.depth or 0} envelopes in the queue")
        else:
            pulse.status(f"not accepting: {state.reason}")
        await tick(BEAT_SECONDS)


async def _report(refusals: Refusals) -> None:
    """Log now and then who was refused: not for each refusal, which a stranger can make."""
    while True:
        await asyncio.sleep(REPORT_SECONDS)
        refusals.report()
