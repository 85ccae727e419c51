"""Tallies: the work of a process since it started, as plain numbers. Pure.

They are counted once for an envelope or a transaction, never for a message; metrics are made of
them (see `metrics`). Each is written by one thread, and read by others as it is.
"""

from bisect import bisect_left
from collections import Counter
from typing import Final

#: Upper bounds of a histogram's buckets, in seconds.
BOUNDS: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
    3600.0,
)  # fmt: skip

#: The reasons of dead letters. Any AMQP client can write our own format, with a reason that it made
#: up: that one is counted as `other`.
DEAD_REASONS: Final = frozenset({
    "undecodable", "foreign-envelope", "conflict", "not-json", "bad-event", "no-signature",
    "bad-signature", "too-old", "too-new", "bad-form", "schema", "too-large", "empty", "bad-topic",
    "unstorable", "handler-failed",
    "broker-expired", "broker-rejected", "broker-delivery-limit", "broker-maxlen", "broker-unknown",
})  # fmt: skip


class Histogram:
    """How often something took how many seconds."""

    __slots__ = ("buckets", "seconds")

    def __init__(self) -> None:
        #: one for each of BOUNDS, and one for what took longer
        self.buckets = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0

    def observe(self, seconds: float, times: int = 1) -> None:
        """Count something that took so long, `times` times."""
        self.buckets[bisect_left(BOUNDS, seconds)] += times
        self.seconds += seconds * times

    def add(self, other: "Histogram") -> None:
        """Count what another one has counted too."""
        self.buckets = [a + b for a, b in zip(self.buckets, other.buckets, strict=True)]
        self.seconds += other.seconds


class PublishTally:
    """What a publisher has sent."""

    __slots__ = ("accepted", "confirmed", "nacked", "published", "took")

    def __init__(self) -> None:
        self.accepted = 0  # messages that were confirmed in time
        self.published = 0  # envelopes, each time that one was sent
        self.confirmed = 0  # envelopes
        self.nacked = 0  # envelopes that the broker refused
        #: from the first message of an envelope to its confirm, for each message
        self.took = Histogram()

    def add(self, other: "PublishTally") -> None:
        """Count what another one has counted too."""
        self.accepted += other.accepted
        self.published += other.published
        self.confirmed += other.confirmed
        self.nacked += other.nacked
        self.took.add(other.took)


class StreamTally:
    """The streams that the API serves now."""

    __slots__ = ("open",)

    def __init__(self) -> None:
        self.open = 0


class StoreTally:
    """What writers have committed: messages."""

    __slots__ = ("dead", "duplicates", "lag", "quarantined", "stored", "transactions")

    def __init__(self) -> None:
        self.stored = 0
        self.duplicates = 0  # came again, and were rows already
        self.dead: Counter[str] = Counter()  # by reason
        self.quarantined = 0  # of these
        self.transactions = 0
        #: from the moment a message was accepted to its commit
        self.lag = Histogram()

    def note_dead(self, reason: str, meta: str | None) -> None:
        """Count a dead letter."""
        self.dead[reason if reason in DEAD_REASONS else "other"] += 1
        self.quarantined += meta is not None and '"quarantine"' in meta
