"""What the API knows of the broker at a moment; safe to read from any thread."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BrokerState:
    """`accepting` is whether a message sent now would be confirmed; else `reason` says why not.

    `depth` counts envelopes that wait in the queue, `consumers` the workers attached to it; both
    are None until they were asked for, which was `checked_seconds_ago`.
    """

    connected: bool
    blocked: bool
    accepting: bool
    reason: str | None
    depth: int | None
    consumers: int | None
    checked_seconds_ago: float | None
