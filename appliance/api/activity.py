"""Logs that the appliance is ready, once, and on a terminal the messages that it stores.

A thread looks at the readiness until it is ready, and then, on a terminal only, once a second at
the store's counters. Nothing is counted on the way of a message for it.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import structlog

from appliance.errors import StoreError
from appliance.machine.pulse import Pulse
from appliance.machine.signs import READY
from appliance.machine.ticks import until_tick

#: Seconds between two looks, before and after it is ready.
_UNTIL_READY: Final = 0.25
_AFTERWARDS: Final = 1.0
#: Topics that a line names; the others are counted.
_MOST_NAMED: Final = 5

_log: Any = structlog.get_logger(__name__)


@contextlib.contextmanager
def running(
    pulse: Pulse,
    is_ready: Callable[[], bool],
    count_messages: Callable[[], Mapping[str, int]] | None,
    lag: Callable[[], tuple[float, float]] = lambda: (0.0, 0.0),
    is_teller: Callable[[], bool] = lambda: True,
) -> Iterator[None]:
    """Tell within the block.

    `is_ready` says whether a message sent now would be stored; `count_messages` returns the stored
    messages by topic, or raises StoreError. None: there is no terminal, so activity isn't shown.
    `lag` returns the seconds from 202 to the row of all messages together, and how many they are.
    `is_teller` says whether it is this process, of several, that tells what was stored.
    """
    stop = threading.Event()
    arguments = (stop, pulse, is_ready, count_messages, lag, is_teller)
    thread = threading.Thread(target=_run, args=arguments, name="activity", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _run(
    stop: threading.Event,
    pulse: Pulse,
    is_ready: Callable[[], bool],
    count_messages: Callable[[], Mapping[str, int]] | None,
    lag: Callable[[], tuple[float, float]],
    is_teller: Callable[[], bool],
) -> None:
    while not is_ready():
        if stop.wait(_UNTIL_READY):
            return
    pulse.tell(READY, True)
    if count_messages is None:
        _log.info("appliance ready")
        return
    counts: Mapping[str, int] | None = None
    told: tuple[float, float] | None = None  # the lag of which the last line told
    while True:
        # An error is left to readiness and to the log of those who need the store.
        with contextlib.suppress(StoreError):
            now = lag()
            told = told or now
            earlier, counts = counts, count_messages()
            if earlier is not None and (new := increases(earlier, counts)) and is_teller():
                after = {"after": mean(told, now)} if told[1] < now[1] else {}
                told = now
                _log.info("messages stored", count=sum(new.values()), topics=in_words(new), **after)
        if stop.wait(until_tick(_AFTERWARDS)):
            return


def mean(before: tuple[float, float], after: tuple[float, float]) -> str:
    """Return how long a message took to its row, on average between two looks: `4 ms`."""
    seconds = (after[0] - before[0]) / (after[1] - before[1])
    return f"{max(seconds, 0) * 1000:.0f} ms" if seconds < 10 else f"{seconds:.0f} s"


def increases(earlier: Mapping[str, int], counts: Mapping[str, int]) -> dict[str, int]:
    """Return by how much each topic's count has grown; topics that shrank are left out."""
    grown = {topic: count - earlier.get(topic, 0) for topic, count in counts.items()}
    return {topic: count for topic, count in grown.items() if count > 0}


def in_words(counts: Mapping[str, int]) -> str:
    """Return for example `orders 9, readings 3`, the largest first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    words = [f"{topic} {count:,}" for topic, count in ordered[:_MOST_NAMED]]
    rest = ordered[_MOST_NAMED:]
    if rest:
        words.append(f"{len(rest):,} more {sum(count for _, count in rest):,}")
    return ", ".join(words)
