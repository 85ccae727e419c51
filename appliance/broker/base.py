"""What the API knows of the broker at a moment; safe to read from any thread."""

from dataclasses import dataclass

from appliance.model.ledger import Entry


@dataclass(frozen=True, slots=True)
class BrokerState:
    """`accepting` is whether a message sent now would be confirmed; else `reason` says why not.

    `depth` counts envelopes that wait in the queue, `consumers` the workers attached to it; both
    are None until they were asked for, which was `checked_seconds_ago`. `numbers` is what this
    process would say at its end of the envelopes it sent. `full` is whether the queue refused what
    was sent last, and has not drained since.
    """

    connected: bool
    blocked: bool
    accepting: bool
    reason: str | None
    depth: int | None
    consumers: int | None
    checked_seconds_ago: float | None
    numbers: Entry | None = None
    full: bool = False
