"""The chronicle: how a span was, from the minutes of the database and the latest seconds."""

import threading
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from appliance.config import Config
from appliance.errors import InputError, StoreError
from appliance.history.recent_seconds import KEPT_SECONDS, recent_seconds
from appliance.machine import disk_space
from appliance.model import quantities
from appliance.model.forecast import full_in
from appliance.model.history_points import HistoryPoint, in_steps
from appliance.store.base import History

#: Seconds of the shortest and the longest span.
LEAST_SPAN: Final = 60
MOST_SPAN: Final = 14 * 86_400
#: Widths of a point in seconds, and how many points there are at most: a span has the narrowest
#: with which it has no more.
STEPS: Final = (1, 60, 300, 1200)
MOST_POINTS: Final = 1500

_MINUTE: Final = 60
_DAY: Final = 86_400
#: Seconds for which a forecast holds, and between two of its points.
_FRESH_SECONDS: Final = 60.0
_FORECAST_STEP: Final = 1200
#: Answers of the database that are remembered.
_MOST_KNOWN: Final = 8


class Chronicle(NamedTuple):
    """The points of a span (Unix times, seconds) in order; a stretch nobody watched has none."""

    since: int
    until: int
    step: int
    points: list[HistoryPoint]


class Chronicler:
    """Tells the history. One for each API process, for any thread."""

    def __init__(
        self, config: Config, history: History, clock: Callable[[], float] = time.time
    ) -> None:
        self._config = config
        self._history = history
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[tuple[int, int, int], list[HistoryPoint]] = {}
        self._forecast: tuple[float, float | None] | None = None  # when it was made

    def of(self, span: int, step: int | None = None) -> Chronicle:
        """Return how the last `span` seconds were. Raises StoreError.

        `step` is one of STEPS, or a multiple of the last; None: the narrowest that is in bounds.
        """
        step = _step(span) if step is None else step
        now = self._clock()
        since, until = int(now) - span, int(now) + 1
        since = since // step * step
        if step < _MINUTE:
            return Chronicle(since, until, step, in_steps(self._seconds(since, now), step))
        return Chronicle(since, until, step, in_steps(self._minutes(since, now, step), step))

    def full_at(self) -> float | None:
        """Return when the data's disk is down to its floor at the last day's rate (Unix time).

        None: nothing foretells it, or that is not known.
        """
        with self._lock:
            now = self._clock()
            if self._forecast is None or not 0 <= now - self._forecast[0] < _FRESH_SECONDS:
                self._forecast = now, self._foretell(now)
            return self._forecast[1]

    def _foretell(self, now: float) -> float | None:
        try:
            disk = disk_space.disks(self._config)[0]
            points = self._history.points(int(now) - _DAY, int(now) + 1, _FORECAST_STEP)
        except StoreError:
            return None
        levels = ((each.at, each.disk_free_bytes) for each in points)
        free = [(at, level) for at, level in levels if level is not None]
        seconds = full_in([*free, (now, disk.free)], disk.floor)
        return None if seconds is None else now + seconds

    def _seconds(self, since: int, now: float) -> list[HistoryPoint]:
        """Return the latest seconds, and the minutes before the first of them."""
        found = recent_seconds(self._config, now, min(KEPT_SECONDS, int(now) - since + 1))
        first = found[0].at // _MINUTE * _MINUTE if found else int(now) + 1
        earlier = self._history.points(since // _MINUTE * _MINUTE, first, _MINUTE)
        return [each for each in earlier if each.at >= since] + found

    def _minutes(self, since: int, now: float, step: int) -> list[HistoryPoint]:
        """Return the minutes, and the seconds of those that are not in the database yet."""
        late = (int(now) // _MINUTE - 1) * _MINUTE
        found = self._earlier(since, late, step)
        kept = {each.at: each for each in self._history.points(late, int(now) + 1, _MINUTE)}
        seconds = recent_seconds(self._config, now, int(now) - late + 1)
        # After a restart the database has a part of a minute that goes on.
        for point in in_steps(seconds, _MINUTE):
            known = kept.get(point.at)
            if known is None or known.seconds < point.seconds:
                kept[point.at] = point
        return found + [kept[at] for at in sorted(kept)]

    def _earlier(self, since: int, until: int, step: int) -> list[HistoryPoint]:
        """Return what is in the database; it is the same until the next minute."""
        key = since, until, step
        with self._lock:
            if key in self._known:
                return self._known[key]
        found = self._history.points(since, until, step)
        with self._lock:
            self._known[key] = found
            while len(self._known) > _MOST_KNOWN:
                del self._known[next(iter(self._known))]
        return found


def parse_history_span(text: str | None) -> int:
    """Return the seconds of a span such as `15m`, `1h` or `14d`; an hour if there is no text.

    Raises InputError for anything else.
    """
    try:
        seconds = quantities.span("1h" if text is None else text)
    except ValueError as error:
        raise InputError(f"span: {error}") from error
    if not LEAST_SPAN <= seconds <= MOST_SPAN:
        raise InputError("span: expected from 1m to 14d: the history is kept for two weeks")
    return seconds


def _step(span: int) -> int:
    if span > KEPT_SECONDS:
        return next(each for each in STEPS[1:] if span / each <= MOST_POINTS)
    return STEPS[0]
