"""Times as the store, the wire and the API write them: ISO 8601, UTC, milliseconds. No I/O."""

import functools
import re
import time
from datetime import UTC, datetime
from typing import Final

#: End of the year 9999, the last second that can be written.
LAST_SECOND: Final = 253402300799.0

#: The time 0 of Unix.
EPOCH: Final = "1970-01-01T00:00:00.000Z"

_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)


def now() -> str:
    """Return the time of the call."""
    return _of_millisecond(time.time_ns() // 1_000_000)


@functools.lru_cache(maxsize=4)
def _of_millisecond(milliseconds: int) -> str:
    """Write a time; many messages come within one millisecond, and many such within one second."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{_of_second(seconds)}.{rest:03d}Z"


@functools.lru_cache(maxsize=4)
def _of_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def timestamp(seconds: float) -> str:
    """Write a Unix time in seconds."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def seconds_between(earlier: str, later: str) -> float:
    """Return the seconds from one written time to another; 0 where one is no time that there is."""
    try:
        return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()
    except (ValueError, TypeError):  # written by another program
        return 0.0


def is_time(text: str) -> bool:
    """Whether `text` is a time as `timestamp` writes it."""
    return _TIME.fullmatch(text) is not None
