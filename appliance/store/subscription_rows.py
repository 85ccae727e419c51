"""Subscriptions, the orders of their consumers, and the outcome of each. Any engine."""

from typing import Final, Literal, NamedTuple

from appliance.store.rows import StoredMessage

#: Messages of one subscription that can be leased or wait for another try; with as many, no new
#: ones are handed out: consumers that acknowledge nothing can't make the table grow for ever.
MAX_UNFINISHED: Final = 10_000
#: Messages that are counted as the lag of a subscription; of more it is said that there are more.
MOST_COUNTED: Final = 100_000


class SubscriptionRow(NamedTuple):
    """One subscription: `topics` are patterns, and a message is given up after `most_attempts`."""

    name: str
    topics: tuple[str, ...]
    lease_seconds: int
    most_attempts: int
    created_at: str
    acknowledged: int = 0
    #: Messages that were deleted before they were acknowledged, and had been handed out.
    gone: int = 0
    #: Times that a message was handed out once more.
    redelivered: int = 0


class SubscriptionCounts(NamedTuple):
    """How many messages of a subscription are where.

    `lag` is how many were never handed out; with `lag_is_more` they are that many at least.
    `waiting` ones were handed out, and wait for another try.
    """

    lag: int
    lag_is_more: bool
    leased: int
    waiting: int
    dead: int


class DeadMessage(NamedTuple):
    """A message that a subscription has given up."""

    message: StoredMessage
    attempts: int
    dead_at: float
    reason: str

    @property
    def seq(self) -> int:
        """Place in the order of storing."""
        return self.message.seq

    @property
    def body(self) -> bytes:
        """The message's body, by which pages are bounded."""
        return self.message.body


class Receive(NamedTuple):
    """The wish for up to `limit` messages, leased for `seconds` (None: as the subscription says).

    `patterns` are those of the topics that the caller may read; None: every topic.
    """

    subscription: str
    patterns: tuple[str, ...] | None
    limit: int
    seconds: int | None


class Settlement(NamedTuple):
    """What a consumer says of messages that it has leased.

    `seconds` is the delay of a `nack`, or the new length of an `extend`.
    """

    action: Literal["ack", "nack", "extend"]
    subscription: str
    patterns: tuple[str, ...] | None
    leases: tuple[str, ...]
    seconds: int = 0
    reason: str = ""


class HandedOut(NamedTuple):
    """A message that is leased until a moment: Unix time in milliseconds."""

    message: StoredMessage
    attempt: int
    lease: str
    until: int


class Received(NamedTuple):
    """The outcome of a `Receive`.

    Where nothing was there: `due` is when a message can come back (milliseconds of Unix time, None:
    none can), and `is_partial` says that not all was looked at, so that another try can find some.
    """

    messages: list[HandedOut]
    due: int | None = None
    is_partial: bool = False


class Settled(NamedTuple):
    """The outcome of a `Settlement`: how many leases counted, and those that did not any more."""

    done: int
    unknown: list[str]
    until: int = 0


class NotServed(NamedTuple):
    """The outcome where there is no such subscription, or the caller may not read its topics."""

    reason: Literal["unknown", "forbidden"]


PullOrder = Receive | Settlement
PullOutcome = Received | Settled | NotServed
