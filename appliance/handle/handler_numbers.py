"""The numbers of a handler process that it shows on the board."""

from collections.abc import Iterable, Sequence
from typing import Final

from appliance.metrics.board import Numbers
from appliance.model.handler_outcomes import HandlerOutcome
from appliance.model.tallies import Histogram

#: The metric of the counters, and the values of its label `outcome`: each is there from the start.
COUNTER: Final = "handler_messages_total"
OUTCOMES: Final = ("handled", "dropped", "failed", "dead")
#: The function, as a label, of those that have no room of their own on the board.
OTHER: Final = "other"

#: Bytes that counters may take of a record of the board, which has 4096; and one counter beside the
#: name of its function.
_BYTES: Final = 2800
_BYTES_OF_ONE: Final = 50


class HandlerNumbers:
    """Counts what is stored of each function's outcomes, and how long the functions took.

    The functions that have no room in a record are counted together, as `OTHER`.
    """

    def __init__(self, functions: Sequence[str]) -> None:
        self._named = set[str]()
        left = _BYTES - len(OUTCOMES) * (_BYTES_OF_ONE + len(OTHER))
        for function in functions:
            left -= len(OUTCOMES) * (_BYTES_OF_ONE + len(function))
            if left >= 0:
                self._named.add(function)
        shown = (*self._named, OTHER) if len(self._named) < len(functions) else (*self._named,)
        self._counters = {_key(outcome, each): 0 for each in shown for outcome in OUTCOMES}
        self.took = Histogram()

    def add(self, outcomes: Iterable[tuple[str, HandlerOutcome]]) -> None:
        """Add outcomes that were stored, each with its function; a failure counts each time."""
        for function, outcome in outcomes:
            if outcome.results is not None:
                self._count("handled" if outcome.results else "dropped", function)
                continue
            self._count("failed", function)
            if outcome.retry_at is None:
                self._count("dead", function)

    def numbers(self) -> Numbers:
        """Return them for the board; called in its thread."""
        histogram = [*self.took.buckets, round(self.took.seconds, 6)]
        return Numbers(dict(self._counters), {"handler_duration_seconds": histogram})

    def _count(self, outcome: str, function: str) -> None:
        self._counters[_key(outcome, function if function in self._named else OTHER)] += 1


def _key(outcome: str, function: str) -> str:
    return f"{COUNTER}:{outcome}:{function}"
