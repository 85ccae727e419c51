"""The numbers of deliveries that the process shows on the board, of all endpoints together.

`/v1/endpoints` has them for each. A board's file has no room for a hundred names.
"""

import time
from collections.abc import Iterable, Mapping
from typing import Final

from appliance.metrics.board import Numbers
from appliance.store.endpoint_rows import EndpointStanding

#: Outcomes, by the member of a standing; each is there from the start.
_OUTCOMES: Final = {
    "delivered": "delivered", "failed": "failed", "given-up": "given_up", "gone": "gone"
}  # fmt: skip


class DeliveryNumbers:
    """Counts what is stored of deliveries, and notes how the endpoints are."""

    def __init__(self) -> None:
        self._counters = {f"deliveries_total:{outcome}": 0 for outcome in _OUTCOMES}
        self._gauges: dict[str, float] = {}
        self._up_to_date: dict[int, float] = {}

    def add(self, standings: Iterable[EndpointStanding]) -> None:
        """Add the counts of outcomes that were stored."""
        for standing in standings:
            for outcome, member in _OUTCOMES.items():
                self._counters[f"deliveries_total:{outcome}"] += getattr(standing, member)

    def look(self, behind: Mapping[int, int], broken_at: Iterable[float]) -> None:
        """Note by how many messages each active endpoint is behind, and since when some fail."""
        now, before = time.time(), self._up_to_date
        self._up_to_date = {
            number: before.get(number, now) if count else now for number, count in behind.items()
        }
        broken = list(broken_at)
        self._gauges = {
            "endpoints_active": len(behind),
            "endpoints_failing": len(broken),
            "endpoint_failing_age_seconds": round(max(0.0, now - min(broken, default=now)), 1),
            "delivery_lag_messages": max(behind.values(), default=0),
            "delivery_lag_seconds": round(now - min(self._up_to_date.values(), default=now), 1),
        }

    def numbers(self) -> Numbers:
        """Return them for the board; called in its thread."""
        return Numbers(dict(self._counters), {}, self._gauges)
