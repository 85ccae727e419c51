"""The outbox: parcels that wait to be published or are on their way, in the order they came.

Messages that come in one turn of the event loop share an envelope, whatever their topics. Once a
few requests are unconfirmed, later messages are gathered into the next envelope: they would have to
wait for the broker's disk all the same, and the broker and the worker then pay once for many.
There is one queue for all topics, so the order within each of them holds.

A lost connection refuses nothing: unconfirmed parcels are sent again, in the same order, as soon
as there is a new connection. That is harmless, since a message that is stored already is not stored
again. Only the deadline refuses: DeadlineError where a message may have reached the broker,
RefusedError where it certainly has not.

No I/O: the publisher sends what `next` yields, and says what became of it.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from appliance.broker.publish.numbering import Numbering
from appliance.errors import BrokerError, DeadlineError, RefusedError
from appliance.model.ids import PREFIX_LENGTH
from appliance.model.tallies import PublishTally
from appliance.model.wire import Addressed, Envelope, Message, as_bytes, batch, mixed, pack, single

if TYPE_CHECKING:
    from appliance.broker.base import Waiter
    from appliance.model.ledger import Ranges

#: Messages, bytes and topics of a gathered envelope: beyond, the next one is begun. Topics are in
#: the envelope's headers, which must fit into one frame (128 KiB).
_GATHER_MESSAGES: Final = 512
_GATHER_BYTES: Final = 256 * 1024
_GATHER_TOPICS: Final = 256
#: Unconfirmed requests, from which on messages are gathered: a few that come apart don't wait for
#: one another, and under load one envelope is on its way while the next one fills.
_APART_REQUESTS: Final = 4
#: Unconfirmed bytes.
_WINDOW_BYTES: Final = 32 * 2**20
#: Requests that can wait here in all: beyond, a message is refused at once.
_HELD_REQUESTS: Final = 50_000


class Parcel:
    """An envelope that is gathered, or one that is sealed and on its way."""

    __slots__ = (
        "carried",
        "deadline",
        "envelope",
        "expires_at",
        "is_batch",
        "ledger",
        "messages",
        "number",
        "put_back",
        "requests",
        "sent",
        "size",
        "topics",
        "waiters",
    )

    def __init__(self, deadline: float, envelope: Envelope | None = None) -> None:
        self.deadline = deadline
        self.envelope = envelope
        self.messages: list[Addressed] = []
        self.is_batch = False  # `messages` are those of one batch
        self.expires_at: str | None = None  # when the last of `messages` ends; None: none does
        self.topics: set[str] = set()  # of `messages`
        self.size = 0 if envelope is None else len(envelope.body)  # bytes
        self.requests = 0  # counted when it was sent
        self.sent = False
        self.put_back = False  # sent on a connection that was lost before it was confirmed
        self.number = 0  # given when it is first sent
        self.ledger = ""  # the ledger entry that it carries
        self.carried: Ranges = []  # the `not_kept` of that entry
        self.waiters: list[Waiter] = []

    def sealed(self) -> Envelope:
        """Return the envelope; nothing can be added any more."""
        if self.envelope is None:
            messages = self.messages
            topic, first = messages[0]
            if self.is_batch:
                self.envelope = batch(
                    topic, first.id[:PREFIX_LENGTH], first.received_at,
                    [as_bytes(message.body) for _, message in messages],
                    first.content_type, first.meta,
                )  # fmt: skip
            elif len(messages) == 1 and first.dead is None:
                body = as_bytes(first.body)
                self.envelope = single(
                    topic, first.id, first.received_at, body, first.content_type, first.meta
                )
            elif len(self.topics) == 1:
                self.envelope = pack(topic, [message for _, message in messages], self.size)
            else:
                self.envelope = mixed(messages, self.size)
            if self.expires_at is not None:
                self.envelope = replace(self.envelope, expires_at=self.expires_at)
            self.messages = []
        return self.envelope


class Outbox:
    """All parcels of a publisher. `timeout` is how many seconds a message may wait.

    `most_bytes` can wait here in all: beyond, a message is refused at once.

    Each message comes with a waiter, which is told when its parcel is confirmed, refused or past
    its deadline, and may add a further message then.
    """

    def __init__(
        self,
        numbering: Numbering,
        timeout: float,
        clock: Callable[[], float] = time.monotonic,
        *,
        most_bytes: int = 64 * 2**20,
    ) -> None:
        self._most_bytes = most_bytes
        self._window_limit = min(_WINDOW_BYTES, most_bytes // 2)
        self._numbering = numbering
        self._timeout = timeout
        self._clock = clock
        self._waiting: deque[Parcel] = deque()
        self._unconfirmed: dict[int, Parcel] = {}
        self._next_tag = 1
        self._unconfirmed_requests = 0
        self._window_bytes = 0
        self.tally = PublishTally()
        #: Requests and bytes that wait for an answer.
        self.held_requests = 0
        self.held_bytes = 0

    @property
    def _has_room(self) -> bool:
        return (
            self._unconfirmed_requests < _APART_REQUESTS and self._window_bytes < self._window_limit
        )

    def add(
        self, topic: str, message: Message, waiter: "Waiter", expires_at: str | None = None
    ) -> None:
        """Take a message whose body is bytes; it may share an envelope with others.

        One that ends at `expires_at`, as its meta says too, shares it with those of its topic that
        end: one header says it of them all. Raises RefusedError where too much waits already.
        """
        size = len(message.body)
        self._hold(size)
        if expires_at is None:
            parcel = self._gathering(size, 1)
        else:
            parcel = self._gathering(size, 1, ends_with=topic)
            parcel.expires_at = max(expires_at, parcel.expires_at or "")
        parcel.is_batch = False
        parcel.messages.append((topic, message))
        parcel.topics.add(topic)
        parcel.size += size
        parcel.waiters.append(waiter)

    def add_batch(self, topic: str, messages: Sequence[Message], waiter: "Waiter") -> None:
        """Take the messages of one batch, with ids one after another; see `add`.

        They share one envelope, and perhaps with others.
        """
        size = sum(len(message.body) for message in messages)
        self._hold(size)
        parcel = self._gathering(size, len(messages))
        parcel.is_batch = not parcel.messages
        parcel.messages += [(topic, message) for message in messages]
        parcel.topics.add(topic)
        parcel.size += size
        parcel.waiters.append(waiter)

    def _gathering(self, size: int, count: int, ends_with: str | None = None) -> Parcel:
        """Return the parcel that is gathered, with room for so many bytes and messages more.

        `ends_with` is the topic of a message that ends.
        """
        waiting = self._waiting
        if (
            not waiting
            or (parcel := waiting[-1]).envelope is not None
            or (parcel.expires_at is None) is not (ends_with is None)
            or (ends_with is not None and ends_with not in parcel.topics)
            or parcel.size + size > _GATHER_BYTES
            or len(parcel.messages) + count > _GATHER_MESSAGES
            or len(parcel.topics) >= _GATHER_TOPICS
        ):
            parcel = Parcel(self._clock() + self._timeout)
            waiting.append(parcel)
        return parcel

    def add_envelope(self, envelope: Envelope, waiter: "Waiter") -> None:
        """Take an envelope as it is. Raises RefusedError where too much waits already."""
        self._hold(len(envelope.body))
        parcel = Parcel(self._clock() + self._timeout, envelope)
        parcel.waiters.append(waiter)
        self._waiting.append(parcel)

    def next(self) -> Iterator[Parcel]:
        """Yield what can be sent now; each parcel counts as sent, and its tag is one more."""
        numbering = self._numbering
        while self._waiting and self._has_room:
            parcel = self._waiting.popleft()
            if not parcel.number:
                parcel.number = numbering.next_number()
            parcel.ledger, parcel.carried = numbering.carried(parcel.number)
            parcel.sent = True
            parcel.requests = len(parcel.waiters)
            self._unconfirmed_requests += parcel.requests
            self._unconfirmed[self._next_tag] = parcel
            self._next_tag += 1
            self._window_bytes += parcel.size
            self.tally.published += 1
            yield parcel

    def confirm(
        self, tag: int, *, multiple: bool, room_made: Callable[[], None] = lambda: None
    ) -> None:
        """Answer the parcel of this tag, or all up to it: the broker has them on disk.

        `room_made` is called before any waiter is told: others may be sent now.
        """
        # A parcel's deadline is so many seconds after its first message.
        now_and_timeout, tally = self._clock() + self._timeout, self.tally
        parcels = self._settle(tag, multiple=multiple, kept=True)
        room_made()
        for parcel in parcels:
            tally.confirmed += 1
            if parcel.waiters and parcel.envelope is not None:
                count = parcel.envelope.count
                tally.accepted += count
                tally.took.observe(now_and_timeout - parcel.deadline, count)
            self._release(parcel, None)

    def refuse(
        self, tag: int, *, multiple: bool, room_made: Callable[[], None] = lambda: None
    ) -> None:
        """Answer the parcel of this tag, or all up to it: the broker refused them.

        `room_made` is that of `confirm`.
        """
        parcels = self._settle(tag, multiple=multiple, kept=False)
        room_made()
        for parcel in parcels:
            self.tally.nacked += 1
            if parcel.put_back:  # an earlier copy may have arrived
                error: BrokerError = DeadlineError(
                    "the queue is full, and the connection broke before: it may have been kept or "
                    "not; send it again with the same Idempotency-Key"
                )
            else:
                error = RefusedError("the queue is full; nothing was kept")
            self._release(parcel, error)

    def oldest(self) -> int:
        """Return the tag of the oldest parcel that the broker has not answered; 0 for none."""
        return next(iter(self._unconfirmed), 0)

    def lose(self) -> None:
        """Put unconfirmed parcels back, in front and in order; the next tag is 1 again."""
        for parcel in reversed(self._unconfirmed.values()):
            if parcel.waiters:
                parcel.put_back = True
                self._waiting.appendleft(parcel)
            else:  # past its deadline: nobody was promised anything, so it is not sent again
                self._numbering.settle(parcel.number, [], kept=False)
        self._unconfirmed.clear()
        self._next_tag = 1
        self._unconfirmed_requests = 0
        self._window_bytes = 0

    def abandon(self) -> None:
        """Count all that was sent and not answered as not kept: from now on nobody is promised it.

        What arrives all the same does no harm. Nothing more may be taken.
        """
        for parcel in (*self._unconfirmed.values(), *self._waiting):
            if parcel.number:
                self._numbering.settle(parcel.number, [], kept=False)

    def expire(self, reason: str) -> None:
        """Answer each parcel past its deadline. `reason` is why the broker took nothing."""
        now = self._clock()
        expired = []
        while self._waiting and self._waiting[0].deadline <= now:
            parcel = self._waiting.popleft()
            if parcel.number:
                self._numbering.settle(parcel.number, [], kept=False)
            expired.append(parcel)
        expired += [parcel for parcel in self._unconfirmed.values() if parcel.deadline <= now]
        for parcel in expired:  # when none of them is left for what a waiter may add
            self._expire(parcel, reason)

    def _hold(self, size: int) -> None:
        if self.held_requests and (
            self.held_requests >= _HELD_REQUESTS or self.held_bytes + size > self._most_bytes
        ):
            raise RefusedError("too much waits for the broker already; nothing was kept")
        self.held_requests += 1
        self.held_bytes += size

    def _settle(self, tag: int, *, multiple: bool, kept: bool) -> list[Parcel]:
        """Take out the parcels that the broker answered, with their fate in the ledger."""
        unconfirmed = self._unconfirmed
        tags = [each for each in unconfirmed if each <= tag] if multiple else [tag]
        parcels = []
        for each in tags:
            parcel = unconfirmed.pop(each, None)
            if parcel is None:
                continue
            parcels.append(parcel)
            self._window_bytes -= parcel.size
            self._numbering.settle(parcel.number, parcel.carried, kept=kept)
            self._unconfirmed_requests -= parcel.requests
        return parcels

    def _expire(self, parcel: Parcel, reason: str) -> None:
        after = f"within {self._timeout:g} s"
        if parcel.sent:
            error: BrokerError = DeadlineError(
                f"not confirmed {after}: it may have been kept or not; "
                "send it again with the same Idempotency-Key"
            )
        else:
            error = RefusedError(f"the broker took nothing {after} ({reason}); nothing was kept")
        self._release(parcel, error)

    def _release(self, parcel: Parcel, error: BrokerError | None) -> None:
        """Answer a parcel's waiters, and count what is held no more."""
        waiters = parcel.waiters
        if not waiters:  # it was past its deadline, and is counted already
            return
        parcel.waiters = []
        self.held_requests -= len(waiters)
        self.held_bytes -= parcel.size
        for waiter in waiters:
            if not waiter.done():
                if error is None:
                    waiter.set_result(None)
                else:
                    waiter.set_exception(error)
