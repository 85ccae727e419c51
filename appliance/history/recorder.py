"""The recorder: looks at the numbers of all processes each second, and keeps how it was.

A thread of the janitor's. Seconds go into a file of the run folder, minutes into the database. One
process looks for all: an API process that kept seconds of its own would lose them when it is
restarted, and would look whether anybody asks or not.
"""

import contextlib
import contextvars
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import structlog

from appliance.config import Config
from appliance.errors import StoreError
from appliance.history.recent_seconds import RecentSeconds, recent_seconds
from appliance.machine import disk_space
from appliance.machine.complaint import Complaint
from appliance.metrics import board
from appliance.metrics.board import BoardTotals
from appliance.model.history_points import HistoryPoint, combined, in_steps, quantiles
from appliance.store.base import History

#: Seconds between two looks.
LOOK_SECONDS: Final = 1.0
#: Seconds between two looks beyond which nobody watched: what came then is of no minute.
_BLIND_SECONDS: Final = 90.0
_MINUTE: Final = 60
_REFUSED: Final = "requests_refused_total:"
#: Minutes that wait to be kept, while the database can't be written to.
_MOST_WAITING: Final = 60

#: Seconds that the end waits for the last minute to be kept.
_PATIENCE: Final = 2.0

_log: Any = structlog.get_logger(__name__)


class _Look(NamedTuple):
    """Counters at one moment (of the monotonic clock)."""

    at: float
    accepted: float
    stored: float
    refused: float
    dead: float
    lag: Sequence[float]


class HistoryRecorder:
    """Used by one thread."""

    def __init__(self, config: Config, history: History) -> None:
        self._config = config
        self._history = history
        self._recent = RecentSeconds(config)
        self._last: _Look | None = None
        self._minute = 0
        self._begun: _Look | None = None  # the look before the minute's first second
        self._seconds: list[HistoryPoint] = []  # of this minute
        self._waiting: list[HistoryPoint] = []  # minutes
        self._keeping = Complaint(_log, "history not kept", "history kept again")
        self._writing = Complaint(_log, "recent history not kept", "recent history kept again")

    def recover(self, now: float) -> None:
        """Keep the minutes of which a process that was killed has only kept the seconds."""
        seconds = recent_seconds(self._config, now)
        if not seconds:
            return
        try:
            kept = self._history.points(seconds[0].at // _MINUTE * _MINUTE, int(now) + 1, _MINUTE)
        except StoreError as error:
            self._keeping.fails(error=str(error))
            return
        known = {each.at for each in kept}
        self._waiting += [each for each in in_steps(seconds, _MINUTE) if each.at not in known]
        self._keep()

    def look(self, now: float, clock: float) -> None:
        """Look once, at this Unix time and at this time of the monotonic clock.

        Where the numbers can't be read, the next look speaks for this one too.
        """
        try:
            totals = board.totals(self._config)
        except StoreError:
            return
        look, minute = _look(totals, clock), int(now) // _MINUTE * _MINUTE
        last = self._last
        is_blind = last is None or look.at - last.at > _BLIND_SECONDS
        if is_blind or minute != self._minute:
            self._end_minute()
            self._minute, self._begun = minute, look if is_blind else last
        self._last = look
        if last is None or is_blind:
            return
        point = _point(int(now), last, look)._replace(**_levels(self._config, totals))
        self._seconds.append(point)
        try:
            self._recent.write(point)
        except OSError as error:
            self._writing.fails(error=str(error))
        else:
            self._writing.works()

    def close(self) -> None:
        """Keep what there is of this minute; the next process adds the rest of it."""
        self._end_minute()
        self._recent.close()

    def _end_minute(self) -> None:
        """Keep the minute as far as it has come; while the database can't be written to, it waits.

        Nothing waits for long: after an hour the oldest minutes are given up.
        """
        if self._seconds and self._begun is not None and self._last is not None:
            half, nearly_all = quantiles(_grown(self._begun.lag, self._last.lag))
            whole = combined(self._minute, self._seconds)
            self._waiting.append(whole._replace(p50_seconds=half, p99_seconds=nearly_all))
        self._seconds = []
        self._keep()

    def _keep(self) -> None:
        del self._waiting[:-_MOST_WAITING]
        try:
            while self._waiting:
                self._history.add(self._waiting[0])
                del self._waiting[0]
        except StoreError as error:
            self._keeping.fails(error=str(error))
        else:
            self._keeping.works()


@contextlib.contextmanager
def recording(config: Config, history: History) -> Iterator[None]:
    """Look for the time of the block."""
    recorder, stop = HistoryRecorder(config, history), threading.Event()

    def run() -> None:
        recorder.recover(time.time())
        while not stop.wait(LOOK_SECONDS - time.time() % LOOK_SECONDS):
            try:
                recorder.look(time.time(), time.monotonic())
            except Exception:  # noqa: BLE001  # the next look may be better
                _log.exception("history not looked for")
        recorder.close()

    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(run,), name="history", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(_PATIENCE)


def _look(totals: BoardTotals, clock: float) -> _Look:
    counters = totals.counters
    return _Look(
        at=clock,
        accepted=counters.get("messages_accepted_total", 0),
        stored=counters.get("messages_stored_total", 0),
        # To ask for something that is not there (yet) is no refusal.
        refused=_sum(counters, _REFUSED) - counters.get(f"{_REFUSED}not-found", 0),
        dead=_sum(counters, "messages_dead_total:"),
        lag=totals.histograms.get("store_lag_seconds", ())[:-1],
    )


def _sum(counters: Mapping[str, float], prefix: str) -> float:
    return sum(value for name, value in counters.items() if name.startswith(prefix))


def _levels(config: Config, totals: BoardTotals) -> dict[str, Any]:
    """Return what there is at this moment, as members of a point."""
    waiting = totals.gauges.get("queue_envelopes")
    try:
        free: int | None = disk_space.disks(config)[0].free
    except StoreError:
        free = None
    return {
        "waiting": None if waiting is None else int(waiting),
        "oldest_seconds": totals.gauges.get("queue_oldest_age_seconds"),
        "disk_free_bytes": free,
    }


def _point(at: int, last: _Look, look: _Look) -> HistoryPoint:
    """Return what came between two looks. Counters that fell have begun anew."""
    half, nearly_all = quantiles(_grown(last.lag, look.lag))
    return HistoryPoint(
        at=at,
        seconds=round(look.at - last.at, 3),
        accepted=_growth(last.accepted, look.accepted),
        stored=_growth(last.stored, look.stored),
        refused=_growth(last.refused, look.refused),
        dead=_growth(last.dead, look.dead),
        p50_seconds=half,
        p99_seconds=nearly_all,
    )


def _growth(before: float, after: float) -> int:
    return int(after - before if after >= before else after)


def _grown(before: Sequence[float], after: Sequence[float]) -> list[float]:
    """Return by how much the buckets of a histogram grew; those of a new one are all new."""
    if len(before) != len(after) or sum(after) < sum(before):
        return list(after)
    return [max(0.0, late - early) for early, late in zip(before, after, strict=True)]
