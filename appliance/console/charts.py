"""Charts of the overview: paths of SVG, and the same as a table. Drawn here: no script is needed.

What nobody watched is a gap in a line and a row that says so, not a zero.
"""

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Final, NamedTuple

from appliance.console.page_words import count, size, span
from appliance.history.chronicle import Chronicle, Chronicler
from appliance.model.history_points import HistoryPoint, in_steps
from appliance.model.timestamps import timestamp

#: Spans that can be chosen: seconds, seconds of a step of the lines, and of a row of the table.
SPANS: Final = {
    "15m": (900, 5, 60),
    "1h": (3600, 60, 300),
    "24h": (86_400, 600, 3600),
    "14d": (1_209_600, 7200, 43_200),
}
_DEFAULT: Final = "1h"
#: What a step of the lines is, in words.
_STEPS: Final = {5: "5 seconds", 60: "a minute", 600: "10 minutes", 7200: "2 hours"}
#: The picture's size in its own units; a page stretches it. The top stays free for the line's half.
_WIDTH: Final = 1000
_HEIGHT: Final = 100
_TOP: Final = 3

_Value = Callable[[HistoryPoint], float | None]
_Words = Callable[[float], str]


class ChartLine(NamedTuple):
    """One line: its name, its style (a class of the style sheet), and its path."""

    name: str
    style: str
    path: str


class Chart(NamedTuple):
    """A picture: what it shows, how much its top is, and all of it in words."""

    key: str
    title: str
    top: str
    words: str
    lines: list[ChartLine]


class ChartRow(NamedTuple):
    """A row of the table; without a point nobody watched from `at` on."""

    at: str
    point: HistoryPoint | None
    cells: list[str]


class Charts(NamedTuple):
    """All of a span, from `since` until `until`. Without `charts` there is nothing to show."""

    span: str
    step: str
    since: str
    until: str
    charts: list[Chart]
    rows: list[ChartRow]


class _Series(NamedTuple):
    name: str
    style: str
    value: _Value


_DISK: Final = "Free on the disk; below the floor messages are refused"
#: Columns of the table.
COLUMNS: Final = (
    "Accepted", "Stored", "Refused", "Dead", "Waiting", "To the row, p99", "Disk free",
)  # fmt: skip


def charts(chronicler: Chronicler, name: str, floor: int) -> Charts:
    """Return the charts of a span; of an hour where there is no such span. Raises StoreError.

    `floor` are the bytes of the disk that must stay free.
    """
    if name not in SPANS:
        name = _DEFAULT
    seconds, step, row_step = SPANS[name]
    told = chronicler.of(seconds, step)
    return Charts(
        name,
        _STEPS[step],
        timestamp(told.since),
        timestamp(told.until),
        _charts(told, floor) if told.points else [],
        _rows(told, row_step),
    )


def rate(number: float) -> str:
    """Return how many a second, such as `0`, `0.25`, `3.2` or `1,003`."""
    return f"{number:,.0f}" if number >= 10 or not number else f"{number:.2g}"


def _charts(told: Chronicle, floor: int) -> list[Chart]:
    return [
        _chart(told, "rate", "Accepted and stored, messages a second", rate, [
            _Series("accepted", "accepted", lambda each: _per_second(each, each.accepted)),
            _Series("stored", "stored", lambda each: _per_second(each, each.stored)),
        ]),
        _chart(told, "waiting", "Waiting, requests in the queue", lambda n: count(round(n)), [
            _Series("waiting", "waiting", lambda each: each.waiting),
        ]),
        _chart(told, "lag", "Lag: from the answer 202 to the row", span, [
            _Series("p99", "slow", lambda each: each.p99_seconds),
            _Series("p50", "stored", lambda each: each.p50_seconds),
            _Series("oldest in the queue", "waiting", lambda each: each.oldest_seconds),
        ]),
        _chart(told, "disk", _DISK, lambda n: size(round(n)), [
            _Series("free", "accepted", lambda each: each.disk_free_bytes),
            _Series("floor", "floor", lambda _: floor),
        ]),
    ]  # fmt: skip


def _per_second(point: HistoryPoint, number: int) -> float | None:
    return number / point.seconds if point.seconds > 0 else None


def _chart(told: Chronicle, key: str, title: str, words: _Words, lines: list[_Series]) -> Chart:
    values = [[each.value(point) for point in told.points] for each in lines]
    known = [[value for value in line if value is not None] for line in values]
    top = max((max(line) for line in known if line), default=0.0)
    drawn = [
        ChartLine(each.name, each.style, _path(told, line, top))
        for each, line in zip(lines, values, strict=True)
    ]
    said = [
        f"{each.name} {words(line[-1])}, at most {words(max(line))}"
        for each, line in zip(lines, known, strict=True)
        if line and each.style != "floor"
    ]
    return Chart(key, title, words(top), "; ".join(said) or "nothing is known", drawn)


def _path(told: Chronicle, values: list[float | None], top: float) -> str:
    """Return a line of steps: each value from its beginning to its end, and nothing in a gap."""
    parts: list[str] = []
    end: float | None = None
    last = ""
    for point, value in zip(told.points, values, strict=True):
        if value is None:
            end = None
            continue
        y = _round(_HEIGHT - (value / top if top else 0.0) * (_HEIGHT - _TOP))
        goes_on = end is not None and point.at <= end + told.step / 2
        end = _end(point, told.step)
        if not goes_on:
            parts.append(f"M{_x(told, point.at)} {y}")
        elif y == last:
            parts.pop()  # the line to its end goes further
        else:
            parts.append(f"V{y}")
        parts.append(f"H{_x(told, end)}")
        last = y
    return "".join(parts)


def _x(told: Chronicle, at: float) -> str:
    """Return where a time is in the picture."""
    part = (at - told.since) / (told.until - told.since)
    return _round(min(max(part, 0.0), 1.0) * _WIDTH)


def _end(point: HistoryPoint, step: int) -> float:
    """Return where a point ends: a minute can stand among seconds."""
    return point.at + max(step, point.seconds if point.seconds > 1.5 * step else 0.0)


def _round(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")


def _rows(told: Chronicle, step: int) -> list[ChartRow]:
    """Return the rows, the newest first; stretches without a point that follow are one."""
    points = {each.at: each for each in in_steps(told.points, step)}
    steps = range(told.since // step * step, told.until, step)
    rows = [ChartRow(timestamp(at), points.get(at), _cells(points.get(at))) for at in steps]
    kept = rows[:1] + [
        row for before, row in pairwise(rows) if row.point is not None or before.point is not None
    ]
    return kept[::-1]


def _cells(point: HistoryPoint | None) -> list[str]:
    if point is None:
        return []
    numbers: Iterable[int] = (point.accepted, point.stored, point.refused, point.dead)
    return [
        *map(count, numbers),
        count(point.waiting),
        "" if point.p99_seconds is None else span(point.p99_seconds),
        size(point.disk_free_bytes),
    ]
