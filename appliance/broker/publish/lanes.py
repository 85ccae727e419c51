"""What waits to be published, and what is on its way: parcels, each in its topic's lane."""

from collections import deque
from typing import TYPE_CHECKING, Final

from appliance.errors import BrokerError
from appliance.model.messages import Envelope, pack, single

if TYPE_CHECKING:
    from asyncio import Future

#: Messages and bytes of a gathered envelope: beyond, the next one is begun.
_GATHER_MESSAGES: Final = 512
_GATHER_BYTES: Final = 256 * 1024


class Parcel:
    """An envelope being gathered, or one that is made and on its way."""

    __slots__ = (
        "deadline",
        "envelope",
        "items",
        "lane",
        "number",
        "put_back",
        "requests",
        "sent",
        "size",
        "told",
        "waiters",
    )

    def __init__(self, lane: "Lane", deadline: float) -> None:
        self.lane = lane
        self.deadline = deadline
        self.items: list[tuple[str, str, bytes]] = []
        self.envelope: Envelope | None = None
        self.size = 0
        self.requests = 0  # counted when it was sent
        self.sent = False
        self.put_back = False  # sent on a connection that was lost before it was confirmed
        self.number = 0  # given when it is first sent
        self.told: list[list[int]] = []  # ranges of numbers, see numbering.py
        self.waiters: list[Future[None]] = []

    def sealed(self) -> Envelope:
        """Return the envelope; nothing can be added any more."""
        if self.envelope is None:
            topic, items = self.lane.topic, self.items
            self.envelope = (
                single(topic, *items[0]) if len(items) == 1 else pack(topic, items, self.size)
            )
            self.items = []
        return self.envelope

    def takes(self, size: int) -> bool:
        """Whether a message of so many bytes may still share this envelope."""
        return (
            self.envelope is None
            and len(self.items) < _GATHER_MESSAGES
            and self.size + size <= _GATHER_BYTES
        )

    def finish(self, error: BrokerError | None = None) -> None:
        """Answer everyone who waits for this parcel."""
        for waiter in self.waiters:
            if not waiter.done():
                if error is None:
                    waiter.set_result(None)
                else:
                    waiter.set_exception(error)
        self.waiters = []


class Lane:
    """One topic: what waits, in order, and how many requests are unconfirmed."""

    __slots__ = ("topic", "unconfirmed", "waiting")

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.unconfirmed = 0
        self.waiting: deque[Parcel] = deque()
