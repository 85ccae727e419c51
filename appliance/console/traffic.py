"""How much was stored in the last minutes, hours or days, as bars. It counts no rows."""

import itertools
import time
from typing import Final, NamedTuple

from appliance.model import timestamps
from appliance.store.base import Reader

#: Spans that can be chosen, and the seconds of one bar.
SPANS: Final = {"15m": (900, 15), "1h": (3600, 60), "24h": (86400, 1200), "14d": (1209600, 21600)}
#: What a bar is, in words.
_BARS: Final = {"15m": "15 seconds", "1h": "a minute", "24h": "20 minutes", "14d": "6 hours"}


class Bar(NamedTuple):
    """Messages of one step: when it began, how many, and the bar's place in the picture."""

    at: str
    messages: int
    x: float
    height: float


class Traffic(NamedTuple):
    """Bars of a span, oldest first; they are `step` wide, in words, and 100 high at most."""

    span: str
    step: str
    bars: list[Bar]
    most: int
    total: int


def traffic(reader: Reader, span: str, now: float | None = None) -> Traffic:
    """Return the bars of a span; of an hour where there is no such span. Raises StoreError."""
    if span not in SPANS:
        span = "1h"
    seconds, step = SPANS[span]
    # Bars begin at whole steps, so that a page that is opened again shows the same ones.
    end = ((time.time() if now is None else now) // step + 1) * step
    edges = [timestamps.timestamp(max(0.0, end - seconds + each)) for each in
             range(0, seconds + step, step)]  # fmt: skip
    marks = reader.marks(edges)
    counts = [max(0, later - earlier) for earlier, later in itertools.pairwise(marks)]
    most = max(counts, default=0)
    width = 100 / max(1, len(counts))
    scale = 100 / most if most else 0.0
    bars = [
        Bar(edges[place], count, round(place * width, 3), round(count * scale, 2))
        for place, count in enumerate(counts)
    ]
    return Traffic(span, _BARS[span], bars, most, sum(counts))
