"""The overview of handlers: the messages that wait for each function, its counts, its troubles."""

from dataclasses import dataclass

from appliance.config import Config
from appliance.handle.handler_numbers import COUNTER, OUTCOMES
from appliance.machine.signs import HANDLER_TROUBLE, signs
from appliance.metrics import board
from appliance.store.handler_rows import FunctionBacklog, Handling


@dataclass(frozen=True, slots=True)
class HandlerState:
    """A function, the patterns of its topics (none: it is in no rule any more), what waits for it.

    `counts` are by outcome, as `/metrics` has them: since the run folder was made.
    """

    backlog: FunctionBacklog
    topics: list[str]
    counts: dict[str, int]


@dataclass(frozen=True, slots=True)
class HandlerOverview:
    """All functions, how many processes run them, and what these say is wrong."""

    handlers: list[HandlerState]
    processes: int
    trouble: list[str]


def handler_overview(config: Config, handling: Handling) -> HandlerOverview:
    """Return how each function stands. Raises StoreError."""
    rules = config.handlers.rules
    backlog = {each.function: each for each in handling.backlog()}
    counters = board.totals(config).counters
    found = [
        HandlerState(
            backlog.get(function) or FunctionBacklog(function, 0, 0, None),
            [pattern for pattern, each in rules if each == function],
            {each: int(counters.get(f"{COUNTER}:{each}:{function}", 0)) for each in OUTCOMES},
        )
        for function in dict.fromkeys([*config.handlers.functions, *backlog])
    ]
    living = [sign for sign in signs(config) if sign.process == "handle"]
    troubles = {str(sign.facts.get(HANDLER_TROUBLE) or "") for sign in living} - {""}
    return HandlerOverview(found, len(living), sorted(troubles))
