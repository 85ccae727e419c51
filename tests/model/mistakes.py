"""Mistakes to plant: each is one that someone could make, and that the machine must find."""

from collections.abc import Callable
from typing import Any, NamedTuple

from world import Parts

import appliance.worker
from appliance.broker import topology
from appliance.broker.publish import outbox, publisher
from appliance.broker.publish.numbering import Numbering
from appliance.redrive import Redriver
from appliance.store.sql import message_writer


class AcknowledgesFirst(appliance.worker.Worker):
    """Acknowledges before the commit."""

    def _store_all(self, loop: Any) -> None:
        self._loop = loop
        super()._store_all(loop)

    def _store(self, group: Any, writer: Any, *, account: bool) -> Any:
        if group:
            self._loop.call_soon_threadsafe(self._consumer.acknowledge, group[-1])
        return super()._store(group, writer, account=account)


class PutsBackBackwards(outbox.Outbox):
    """Sends again in the wrong order what a lost connection left unconfirmed."""

    def lose(self) -> None:
        self._unconfirmed = dict(reversed(self._unconfirmed.items()))
        super().lose()


class ForgetsWhatIsUnderWay(outbox.Outbox):
    """Takes a lost connection for a confirmation of all that was sent on it."""

    def lose(self) -> None:
        if self._unconfirmed:
            self.confirm(max(self._unconfirmed), multiple=True)
        super().lose()


class SettlesWhatIsSent(Numbering):
    """Calls an envelope settled when it is sent: before the broker has it on disk."""

    def next_number(self) -> int:
        number = super().next_number()
        self.settle(number, [], kept=True)
        return number


class RemovesFirst(Redriver):
    """Removes a dead letter before its message is in the queue."""

    def redrive(self, letter: Any, topic: str | None = None) -> Any:
        self._letters.remove(letter)
        return super().redrive(letter, topic)


class CountsWhatComesAgain(message_writer.Transaction):
    """Adds a redelivered message to its topic's counters once more."""

    def _flush(self) -> None:
        super()._flush()
        self._unsure = []


class Mistake(NamedTuple):
    """The parts with it, and what the machine must say of it."""

    parts: Callable[[], Parts]
    shows: str


#: Those that a few dozen stories find.
FOUND_SOON = {
    "the worker acknowledges before it commits": Mistake(
        lambda: Parts(worker=AcknowledgesFirst),
        "lost|out of order",  # another worker stores what came later meanwhile
    ),
    "a new queue accepts at once": Mistake(
        lambda: Parts(patches=[(topology, "_SETTLE", 0.0)]), "lost"
    ),
    "a lost connection is taken for a confirmation": Mistake(
        lambda: Parts(patches=[(publisher, "Outbox", ForgetsWhatIsUnderWay)]), "lost"
    ),
    "the ledger settles an envelope that is only sent": Mistake(
        lambda: Parts(patches=[(publisher, "Numbering", SettlesWhatIsSent)]),
        "the ledger calls .* missing",
    ),
    "a redelivery is counted again": Mistake(
        lambda: Parts(patches=[(message_writer, "Transaction", CountsWhatComesAgain)]),
        "the counters are wrong|lost",  # a conflict is not seen either
    ),
}
#: Those that need some hundreds.
FOUND_LATE = {
    "unconfirmed envelopes are sent again backwards": Mistake(
        lambda: Parts(patches=[(publisher, "Outbox", PutsBackBackwards)]), "out of order"
    ),
    "a redrive removes the letter first": Mistake(lambda: Parts(redriver=RemovesFirst), "lost"),
}
