"""Refuses messages while a disk is below its floor.

A disk is looked at now and then, not for each message, and in a thread of its own: a disk that
hangs holds whoever asks it.
"""

import contextlib
import contextvars
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

import structlog

from appliance.config import Config
from appliance.errors import StoreError
from appliance.machine import disk_space
from appliance.machine.ticks import until_tick

#: Seconds between two looks at the disks; what can come in meanwhile fits far below the floor.
_LOOK_SECONDS: Final = 0.5
#: Seconds that a stop waits for the thread.
_STOP_SECONDS: Final = 2.0

_log: Any = structlog.get_logger(__name__)


@contextlib.contextmanager
def watching(config: Config, refuse: Callable[[str], None]) -> Iterator[None]:
    """Look at the disks within the block.

    `refuse` is called in the thread, with the reason or, where no disk lacks room, an empty one.
    """
    stop = threading.Event()
    context = contextvars.copy_context()  # the values that every log line of this process has
    thread = threading.Thread(
        target=context.run, args=(_watch, config, refuse, stop), name="space", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(_STOP_SECONDS)


def _watch(config: Config, refuse: Callable[[str], None], stop: threading.Event) -> None:
    is_refusing = False
    while True:
        try:
            lacking = disk_space.lacking(config)
        except StoreError:
            lacking = "the data's disk can't be asked for its free space"
        refuse(lacking)
        if bool(lacking) != is_refusing:
            if lacking:
                _log.warning("refusing messages", reason=lacking)
            else:
                _log.info("accepting messages again")
        is_refusing = bool(lacking)
        if stop.wait(until_tick(_LOOK_SECONDS)):
            return
