"""The schedule of a delivery's attempts: back-off with jitter over days, and Retry-After. Pure.

A receiver that was away for a minute should miss little, and one that is away for a weekend should
not be asked ten thousand times.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

#: Seconds between an attempt that failed and the next one; the last is repeated.
PAUSES: Final = (5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0, 7200.0, 14_400.0, 28_800.0, 43_200.0)
#: Part by which a pause is longer or shorter, so that what failed at once doesn't come at once.
JITTER: Final = 0.2
#: Longest pause, in seconds, that a receiver can ask for.
LONGEST_WISH: Final = 86_400.0

_LONGEST_HEADER: Final = 64


def next_attempt(
    attempt: int,
    now: float,
    first_at: float,
    lifetime: float,
    wish: float | None,
    random: Callable[[], float],
) -> float | None:
    """Return when to try again after attempt number `attempt` (1 is the first) failed at `now`.

    Times are Unix times, `lifetime` is in seconds from the first attempt, `wish` is the least pause
    in seconds that the receiver asked for. None: it is given up. `random` returns [0, 1).
    """
    pause = PAUSES[min(attempt, len(PAUSES)) - 1]
    pause *= 1 - JITTER + 2 * JITTER * random()
    if wish is not None:
        # Not sooner than asked, and not all at the moment that was asked for.
        pause = max(pause, wish * (1 + JITTER * random()))
    at = now + pause
    return at if at <= first_at + lifetime else None


def retry_after(value: bytes, now: float) -> float | None:
    """Return the seconds that a Retry-After asks for, at most LONGEST_WISH; None where it is none.

    Both forms of RFC 9110, 10.2.3: a number of seconds, or a date.
    """
    text = value.strip()
    if len(text) > _LONGEST_HEADER:
        return None
    if text.isdigit():
        return min(float(text), LONGEST_WISH)
    try:
        moment = parsedate_to_datetime(text.decode("ascii"))
    except (ValueError, TypeError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    try:
        seconds = (moment - datetime.fromtimestamp(now, UTC)).total_seconds()
    except OverflowError:
        return None
    return min(max(seconds, 0.0), LONGEST_WISH)
