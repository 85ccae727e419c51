"""Publishes to several shards: one publisher for each, which knows of no other.

So each has a connection, an order, a window and a ledger source of its own, as if it were another
API process.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from appliance.broker import shards
from appliance.broker.base import BrokerState, Waiter
from appliance.broker.publish.publisher import AmqpPublisher
from appliance.errors import DeadlineError, RefusedError
from appliance.model.tallies import PublishTally
from appliance.model.wire import Envelope, Message


@dataclass(frozen=True, slots=True)
class ShardedState(BrokerState):
    """The state of all shards together: of the worst of them, but for the sum of what waits."""

    #: The state of each.
    shards: tuple[BrokerState, ...] = ()


class ShardedPublisher:
    """The publisher to all shards, of which `each` has one in order; see `base.Publisher`."""

    def __init__(self, each: Sequence[AmqpPublisher]) -> None:
        self._each, self._number = each, len(each)

    @property
    def refusal(self) -> str:
        """The reason given to `refuse`; empty while messages are taken."""
        return self._each[0].refusal

    @property
    def tally(self) -> PublishTally:
        """What was sent, and what became of it."""
        total = PublishTally()
        for one in self._each:
            total.add(one.tally)
        return total

    async def run(self) -> None:
        """Stay connected until `stop`."""
        await asyncio.gather(*(one.run() for one in self._each))

    async def stop(self) -> None:
        """Disconnect. Messages that are not confirmed stay unanswered."""
        await asyncio.gather(*(one.stop() for one in self._each))

    def state(self) -> BrokerState:
        """Return the broker's state. Safe in any thread."""
        return together([one.state() for one in self._each])

    def refuse(self, reason: str) -> None:
        """Refuse every later message for this reason; an empty reason ends that. Any thread."""
        for one in self._each:
            one.refuse(reason)

    def send(self, topic: str, message: Message, waiter: Waiter) -> None:
        """Send one message; it may share an envelope with others of its shard.

        The errors are those of `base.Publisher.send`.
        """
        self._of(topic).send(topic, message, waiter)

    def post(
        self, topic: str, message: Message, expires_at: str | None = None
    ) -> asyncio.Future[None]:
        """Send one message as `send` does; the future that is returned is its waiter.

        `expires_at` is when it ends, as its meta says too.
        """
        return self._of(topic).post(topic, message, expires_at)

    def post_batch(self, topic: str, messages: Sequence[Message]) -> asyncio.Future[None]:
        """Send a small batch; the errors are those of `send`, the future is its waiter."""
        return self._of(topic).post_batch(topic, messages)

    def post_envelope(self, envelope: Envelope) -> asyncio.Future[None]:
        """Send an envelope, which is of one topic; the future and the errors are those of `post`.

        Raises TooLargeError where the broker would not take it.
        """
        return self._of(envelope.topic).post_envelope(envelope)

    def publish_and_wait(self, envelope: Envelope) -> None:
        """Send an envelope from any other thread; return when it is confirmed.

        Raises RefusedError or DeadlineError, as the future of `post` does.
        """
        self._of(envelope.topic).publish_and_wait(envelope)

    def mark_and_wait(self, deletion_id: str) -> None:
        """Put a deletion's mark into every queue, from any other thread.

        What is deleted was sent before the first of them, and is stored before the last. Raises
        RefusedError where it certainly isn't kept, DeadlineError where it may be.
        """
        for place, one in enumerate(self._each):
            try:
                one.mark_and_wait(deletion_id)
            except RefusedError as error:
                if place:
                    raise DeadlineError(
                        f"{error}, though the deletion is ordered in {place} of "
                        f"{self._number} shards; order it again"
                    ) from error
                raise

    def _of(self, topic: str) -> AmqpPublisher:
        return self._each[shards.of_topic(topic, self._number)]


def together(states: Sequence[BrokerState]) -> ShardedState:
    """Return the state of all shards."""
    first = next((one for one in states if not one.accepting), states[0])
    stalled = max(states, key=lambda one: one.stalled_seconds)
    values = {field.name: getattr(first, field.name) for field in fields(BrokerState)}
    values |= {
        "depth": _of_all(sum, [one.depth for one in states]),
        "consumers": _of_all(min, [one.consumers for one in states]),
        "checked_seconds_ago": _of_all(max, [one.checked_seconds_ago for one in states]),
        "oldest_seconds": _of_all(max, [one.oldest_seconds for one in states]),
        "blocked": any(one.blocked for one in states),
        "connected": all(one.connected for one in states),
        "full": any(one.full for one in states),
        "stalled_seconds": stalled.stalled_seconds,
        "stalled": stalled.stalled,
        "unsure_seconds": max(one.unsure_seconds for one in states),
    }
    return ShardedState(**values, shards=tuple(states))


def _of_all(total: Callable[[Sequence[Any]], Any], values: Sequence[float | None]) -> Any:
    """Return a number of all; None where one of them is not known."""
    return None if None in values else total(values)
