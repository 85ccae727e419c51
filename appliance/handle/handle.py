"""The process `appliance handle`: it waits, small and quiet, where no topic has a handler."""

import signal
import threading
from typing import Final

from appliance.config import Config
from appliance.machine.pulse import Pulse
from appliance.store.base import Store

#: Seconds between two beats of a process that has nothing to do.
_IDLE_SECONDS: Final = 5.0
_NO_HANDLER: Final = "no topic has a handler"


def run(config: Config, store: Store, pulse: Pulse) -> None:
    """Handle messages until SIGTERM or SIGINT."""
    if config.handlers:
        from appliance.handle.handler_loop import HandlerLoop  # noqa: PLC0415
        from appliance.metrics import board  # noqa: PLC0415

        loop = HandlerLoop(config, store.handling, store.open_writer, pulse)
        with board.shown(config, "handle", loop.shown.numbers):
            loop.run()
        return
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    pulse.status(_NO_HANDLER)
    pulse.ready()
    while not stop.wait(_IDLE_SECONDS):
        pulse.beat()
    pulse.stopping()
