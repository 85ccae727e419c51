"""The seam of the broker: what the rest of the package needs to publish and to consume.

The worker and the API know these names only. The concrete classes are built by the command line's
processes: `publish.publisher.AmqpPublisher` and `consumer.AmqpConsumer`.

One broker can have several addresses (the nodes of a cluster), and several API processes, on one
host or on several. Each of these has a publisher of its own, and is a source of its own in the
ledger; they share nothing but the broker.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from appliance.errors import BrokerError
from appliance.model.contents import Content
from appliance.model.ledger import LedgerEntry
from appliance.model.wire import Envelope, Message

#: The topic exchange that everything is published to, with the topic as routing key.
EXCHANGE: Final = "appliance"
#: The queue of all messages, which the workers consume.
QUEUE: Final = "appliance.store"
#: An exchange, and the queue bound to it: dead letters of QUEUE, which the broker gave up on.
DEAD: Final = "appliance.dead"
#: The topic exchange that stored messages are published to, one by one, for subscribers of our own
#: node; and the headers exchange that is bound to it.
STORED: Final = "appliance.stored"
MATCH: Final = "appliance.stored.match"
#: The topic exchange that MQTT clients publish to. Nothing is bound to it: all goes on to EXCHANGE,
#: its alternate exchange. By its name in a delivery a message is known to have come by MQTT.
MQTT: Final = "appliance.mqtt"
#: How the names of queues begin that users of our own node may declare: the user's name follows.
SUBSCRIBERS: Final = "appliance.sub."
#: How the names of our own queues begin that belong to a drained queue: its name follows.
DRAINS: Final = "appliance.drain."
#: User name on our own node; its password is made at the first start.
USER: Final = "appliance"

#: The fact under which the probe's result is told to other processes (see `machine.pulse`).
PROBE_FACT: Final = "probe"
#: The fact under which an API tells how many seconds the queue of messages has not served it.
STALL_FACT: Final = "stall"


@dataclass(frozen=True, slots=True)
class BrokerState:
    """The broker as the API knows it at one moment; safe to read from any thread."""

    connected: bool
    #: An alarm of the broker's (memory, disk) holds publishers back.
    blocked: bool
    #: A message sent now would be confirmed; else `reason` says why not.
    accepting: bool
    reason: str | None
    #: Envelopes that wait in the queue; None until the queue was first read.
    depth: int | None
    #: Workers attached to the queue; None until the queue was first read.
    consumers: int | None
    #: Seconds since `depth` and `consumers` were read.
    checked_seconds_ago: float | None
    #: The ledger entry that this process would leave if it ended now.
    numbers: LedgerEntry | None = None
    #: The queue refused the last envelope, and has not drained since.
    full: bool = False
    #: Seconds that the oldest envelope in the queue has waited; None until it was first read.
    oldest_seconds: float | None = None
    #: Seconds for which the queue has not served though the broker takes connections, and what is
    #: missing.
    stalled_seconds: float = 0.0
    stalled: str = ""
    #: Seconds for which a node of a cluster has answered nothing though something waited.
    unsure_seconds: float = 0.0


class ProbeState(StrEnum):
    """The outcome of one look at the broker by the probe."""

    UNKNOWN = "unknown"
    SERVES = "serves"
    BLOCKED = "blocked"  # by an alarm; it answers
    AWAY = "away"  # its port is closed
    FAILS = "fails"  # it takes connections, and no message comes back


class Waiter(Protocol):
    """Who waits for what becomes of a message: a future, or what need not wait for its turn.

    It is told on the event loop, once; it may send more meanwhile, and raises nothing.
    """

    def done(self) -> bool:
        """Whether nobody waits any more."""

    def set_result(self, result: None, /) -> None:
        """Take notice that the message is confirmed."""

    def set_exception(self, exception: BrokerError, /) -> None:
        """Take notice of a RefusedError: it certainly isn't kept; or a DeadlineError: it may be."""


class Publisher(Protocol):
    """Publishes durably: a message is confirmed once the broker has it on disk.

    All methods are called on the event loop that `run` runs on, but for `state` and
    `publish_and_wait`.
    """

    @property
    def refusal(self) -> str:
        """The reason given to `refuse`; empty while messages are taken."""

    async def run(self) -> None:
        """Stay connected until `stop`."""

    async def stop(self) -> None:
        """Disconnect. Messages that are not confirmed stay unanswered."""

    def state(self) -> BrokerState:
        """Return the broker's state. Safe in any thread."""

    def refuse(self, reason: str) -> None:
        """Refuse every later message for this reason; an empty reason ends that."""

    def send(self, topic: str, message: Message, waiter: Waiter) -> None:
        """Send one message whose body is bytes; it may share an envelope with any others.

        Raises RefusedError at once where messages are refused or too many wait; the waiter is told
        nothing then.
        """

    def post(
        self, topic: str, message: Message, expires_at: str | None = None
    ) -> asyncio.Future[None]:
        """Send one message as `send` does; the future that is returned is its waiter.

        `expires_at` is when it ends, as its meta says too.
        """

    def post_batch(self, topic: str, messages: Sequence[Message]) -> asyncio.Future[None]:
        """Send a small batch, all or nothing; it may share an envelope with others.

        Its messages have bytes as bodies, ids one after another, and else the same. The errors are
        those of `send`, and the future that is returned is its waiter.
        """

    def post_envelope(self, envelope: Envelope) -> asyncio.Future[None]:
        """Send an envelope as it is; the future and the errors are those of `post`.

        Raises TooLargeError where the broker would not take it.
        """

    def publish_and_wait(self, envelope: Envelope) -> None:
        """Send an envelope from any other thread; return when it is confirmed.

        Raises RefusedError or DeadlineError, as the future of `post` does.
        """

    def mark_and_wait(self, deletion_id: str) -> None:
        """Put a deletion's mark into the queue, from any other thread; return when it is confirmed.

        Raises RefusedError where it certainly isn't kept, DeadlineError where it may be.
        """


class Delivery(Protocol):
    """What the broker delivered, an envelope as a rule, to be acknowledged once it is stored."""

    @property
    def content(self) -> Content:
        """The envelope; a dead letter, where it can't be read; a ledger report; a mark."""

    @property
    def is_drained(self) -> bool:
        """Whether it came from a queue of others."""


class Consumer(Protocol):
    """Consumes the queue of all messages. All methods are called on the event loop."""

    @property
    def consuming(self) -> bool:
        """Whether deliveries come, or would come if this were the active consumer."""

    async def run(self, on_delivery: Callable[[Delivery], None]) -> None:
        """Hand each delivery to `on_delivery`, on the event loop, until `stop`."""

    def is_current(self, delivery: Delivery) -> bool:
        """Whether the delivery can still be acknowledged; else it comes again. Any thread."""

    @property
    def drains(self) -> bool:
        """Whether messages of queues of others are among the deliveries."""

    def acknowledge(self, delivery: Delivery) -> None:
        """Acknowledge this delivery and all before it; nothing where it is not current."""

    def acknowledge_drained(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge those of these that came from queues of others."""

    async def stop(self) -> None:
        """Disconnect once the acknowledgements are written."""
