"""Points of the history: how a stretch of time was, in numbers. Pure.

A stretch that nobody watched has no point: it is a gap, which is not the same as nothing.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, TypeVar

from appliance.model.tallies import BOUNDS

NumberT = TypeVar("NumberT", int, float)

#: Shares of the messages that `p50_seconds` and `p99_seconds` speak of.
_HALF: Final = 0.5
_NEARLY_ALL: Final = 0.99


class HistoryPoint(NamedTuple):
    """One stretch of time, from `at` (Unix time) on; it was watched for `seconds`.

    `accepted`, `stored` and `dead` count messages, `refused` requests. `waiting` is the largest
    number of envelopes that waited in the queue, `oldest_seconds` the longest that one had waited.
    From 202 to the row took `p50_seconds` and `p99_seconds`: half of the messages stored then, and
    99 of 100, were quicker (of several points together the slowest counts). `disk_free_bytes` is
    the least that was free on the data's disk. None: not known, or nothing was stored.
    """

    at: int
    seconds: float
    accepted: int = 0
    stored: int = 0
    refused: int = 0
    dead: int = 0
    waiting: int | None = None
    oldest_seconds: float | None = None
    p50_seconds: float | None = None
    p99_seconds: float | None = None
    disk_free_bytes: int | None = None


def combined(at: int, points: Sequence[HistoryPoint]) -> HistoryPoint:
    """Return the point of a longer stretch that begins at `at`, from those in it."""
    if len(points) == 1:
        return points[0]._replace(at=at, seconds=round(points[0].seconds, 3))
    free = [each.disk_free_bytes for each in points if each.disk_free_bytes is not None]
    return HistoryPoint(
        at=at,
        seconds=round(sum(each.seconds for each in points), 3),
        accepted=sum(each.accepted for each in points),
        stored=sum(each.stored for each in points),
        refused=sum(each.refused for each in points),
        dead=sum(each.dead for each in points),
        waiting=_most(each.waiting for each in points),
        oldest_seconds=_most(each.oldest_seconds for each in points),
        p50_seconds=_most(each.p50_seconds for each in points),
        p99_seconds=_most(each.p99_seconds for each in points),
        disk_free_bytes=min(free, default=None),
    )


def in_steps(points: Iterable[HistoryPoint], step: int) -> list[HistoryPoint]:
    """Return points that are `step` seconds wide and begin at whole steps, in their order."""
    found: dict[int, list[HistoryPoint]] = {}
    for point in points:
        found.setdefault(point.at // step * step, []).append(point)
    return [combined(at, found[at]) for at in sorted(found)]


def quantiles(counts: Sequence[float]) -> tuple[float | None, float | None]:
    """Return p50 and p99 of a histogram's counts, one for each of BOUNDS and one beyond."""
    return _quantile(counts, _HALF), _quantile(counts, _NEARLY_ALL)


def _quantile(counts: Sequence[float], share: float) -> float | None:
    """Return the seconds below which this share is, as if a bucket were evenly filled."""
    total = sum(counts)
    if total <= 0:
        return None
    wanted, below, low = total * share, 0.0, 0.0
    for count, high in zip(counts, BOUNDS, strict=False):
        if below + count >= wanted and count:
            return round(low + (high - low) * (wanted - below) / count, 6)
        below, low = below + count, high
    return BOUNDS[-1]


def _most(values: Iterable[NumberT | None]) -> NumberT | None:
    return max((value for value in values if value is not None), default=None)
