"""The numbers of a handler process that it shows on the board."""

from collections.abc import Iterable
from typing import Final

from appliance.metrics.board import Numbers
from appliance.model.handler_outcomes import HandlerOutcome
from appliance.model.tallies import Histogram

#: Each is there from the start.
_OUTCOMES: Final = ("handled", "dropped", "failed", "dead")


class HandlerNumbers:
    """Counts what is stored of outcomes, and how long the functions took."""

    def __init__(self) -> None:
        self._counters = {f"handler_messages_total:{outcome}": 0 for outcome in _OUTCOMES}
        self.took = Histogram()

    def add(self, outcomes: Iterable[HandlerOutcome]) -> None:
        """Add outcomes that were stored; a failure counts each time."""
        for outcome in outcomes:
            if outcome.results is not None:
                self._count("handled" if outcome.results else "dropped")
                continue
            self._count("failed")
            if outcome.retry_at is None:
                self._count("dead")

    def numbers(self) -> Numbers:
        """Return them for the board; called in its thread."""
        histogram = [*self.took.buckets, round(self.took.seconds, 6)]
        return Numbers(dict(self._counters), {"handler_duration_seconds": histogram})

    def _count(self, outcome: str) -> None:
        self._counters[f"handler_messages_total:{outcome}"] += 1
