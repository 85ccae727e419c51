"""The forecast of when a disk is full, from how much was free. Pure."""

import itertools
import statistics
from collections.abc import Sequence
from typing import Final

#: Seconds that the points must be apart, the first from the last: what falls for some minutes (a
#: backup, a burst) says nothing about a day.
_LEAST_SPAN: Final = 3600.0
_LEAST_POINTS: Final = 6
#: Points that are compared with one another; with more of them, each second, third ... is left out.
_MOST_POINTS: Final = 100
#: Seconds; a disk that is full later than in ten years is no trouble of today's.
_HORIZON: Final = 10 * 366 * 86_400.0


def full_in(points: Sequence[tuple[float, float]], floor: float) -> float | None:
    """Return in how many seconds after the last point the free bytes fall to the floor.

    Points are (Unix time, free bytes), in their order. The rate is the median of the slopes
    between all pairs of points, so that what goes away again, such as a backup that replaces an
    older one, does not bend it. None: they are too few, or nothing falls, or it takes ten years;
    0: it is there already.
    """
    if not points:
        return None
    (first, _), (last, free) = points[0], points[-1]
    if free <= floor:
        return 0.0
    if len(points) < _LEAST_POINTS or last - first < _LEAST_SPAN:
        return None
    some = points[:: -(-len(points) // _MOST_POINTS)]
    slopes = [
        (b - a) / (later - earlier)
        for (earlier, a), (later, b) in itertools.combinations(some, 2)
        if later > earlier
    ]
    slope = statistics.median(slopes) if slopes else 0.0
    if slope >= 0:
        return None
    seconds = (free - floor) / -slope
    return seconds if seconds <= _HORIZON else None
