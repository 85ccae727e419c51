"""The process `appliance deliver`: it waits, small and quiet, until there is an endpoint.

Most appliances have none. So the event loop, the HTTP client and TLS are loaded when the first one
is there, and until then a look at the database costs one system call and a few microseconds, twice
a second.
"""

import signal
import threading
from typing import Any, Final

import structlog

from appliance.config import Config
from appliance.errors import StoreError
from appliance.machine.complaint import Complaint
from appliance.machine.pulse import BEAT_SECONDS, Pulse
from appliance.machine.ticks import until_tick
from appliance.store.endpoints import Deliveries

_NO_ENDPOINT: Final = "no endpoint is active"

_log: Any = structlog.get_logger(__name__)


def run(config: Config, store: Deliveries, pulse: Pulse) -> None:
    """Deliver until SIGTERM or SIGINT."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    pulse.status(_NO_ENDPOINT)
    pulse.ready()
    complaint = Complaint(
        _log, "endpoints not looked for", "endpoints are looked for again", level="info"
    )
    is_due = True
    while not stop.is_set():
        try:
            is_due |= store.is_changed()
            if is_due and store.has_active():
                break
            is_due = False
        except StoreError as error:  # it may not be migrated yet
            complaint.fails(error=str(error))
        else:
            complaint.works()
        pulse.beat()
        stop.wait(until_tick(BEAT_SECONDS))
    if not stop.is_set():
        _deliver(config, store, pulse, stop)
    pulse.stopping()


def _deliver(config: Config, store: Deliveries, pulse: Pulse, told: threading.Event) -> None:
    import asyncio  # noqa: PLC0415

    import uvloop  # noqa: PLC0415

    from appliance.deliver.delivery_engine import DeliveryEngine  # noqa: PLC0415
    from appliance.metrics import board  # noqa: PLC0415

    async def deliver() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        if told.is_set():  # by a signal that came before these handlers
            return
        engine = DeliveryEngine(config, store, pulse)
        with board.shown(config, "deliver", engine.shown.numbers):
            await engine.run(stop)

    uvloop.run(deliver())
