"""The medians as horizontal bars, in SVG written by hand: no library is worth it for that."""

from collections.abc import Sequence
from html import escape

from bench.meter import Measurement
from bench.targets import median

_WIDTH, _LABELS, _BAR, _GAP = 760, 190, 18, 6
_OURS, _OTHERS = "#1f6feb", "#9aa4b2"


def svg(measurements: Sequence[Measurement], scenarios: Sequence[str]) -> str:
    """Return a picture of what each side stores a second, one group of bars a scenario.

    The thin line across a bar's end is the spread over the rounds.
    """
    parts, top = [], 10
    for scenario in scenarios:
        group = [m for m in measurements if m.scenario == scenario]
        if not group:
            continue
        parts.append(_text(10, top + 14, f"{scenario}: stored a second", weight="bold"))
        top += 24
        most = max(m.rate for m in group)
        for side in dict.fromkeys(m.side for m in group):
            parts.append(_row(top, side, [m.rate for m in group if m.side == side], most))
            top += _BAR + _GAP
        top += 14
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top}" '
        'font-family="sans-serif" font-size="12">'
        f'<rect width="{_WIDTH}" height="{top}" fill="white"/>'
    )
    return "\n".join([head, *parts, "</svg>\n"])


def _row(top: int, side: str, rates: Sequence[float], most: float) -> str:
    def place(rate: float) -> float:
        return _LABELS + rate / most * (_WIDTH - _LABELS - 90)

    middle, line = median(rates), top + _BAR / 2
    fill = _OURS if side == "ours" else _OTHERS
    return (
        _text(_LABELS - 8, top + 13, side, anchor="end")
        + f'<rect x="{_LABELS}" y="{top}" width="{place(middle) - _LABELS:.1f}" height="{_BAR}" '
        f'fill="{fill}"/>'
        f'<path d="M{place(min(rates)):.1f} {line}H{place(max(rates)):.1f}" stroke="black"/>'
        + _text(place(max(rates)) + 6, top + 13, f"{middle:,.0f}")
    )


def _text(x: float, y: float, text: str, anchor: str = "start", weight: str = "normal") -> str:
    return (
        f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}" font-weight="{weight}">'
        f"{escape(text)}</text>"
    )
