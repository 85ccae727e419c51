"""Contents of a delivery: an envelope, now or later, a dead letter, a report, a mark.

Each has `body`, `received_at` and `ledger`: the text of the ledger entry that came with it
(`ledger.read` reads it), empty where there was none.
"""

from dataclasses import dataclass
from typing import Final

from appliance.errors import EnvelopeError
from appliance.model.handler_outcomes import HandlerOutcomes, ReleasedMessages
from appliance.model.wire import Envelope, Message, addressed, as_bytes

#: The AMQP `type` of a ledger report.
REPORT: Final = "appliance.report"
#: The AMQP `type` of a deletion's mark.
MARK: Final = "appliance.deletion"


@dataclass(frozen=True, slots=True)
class ForeignMessage(Envelope):
    """An envelope that another AMQP or MQTT client published: nobody has checked its message yet.

    `redelivered` says that the broker delivered it before.
    """

    redelivered: bool = False


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A body that can't be stored as a message.

    `reason` is a stable word, `error` explains it to people. `ledger` came with its envelope.
    """

    topic: str
    id: str
    received_at: str
    body: bytes
    reason: str
    error: str
    ledger: str = ""
    content_type: str | None = None
    meta: str | None = None


def dead_letter(topic: str, message: Message, reason: str, error: str) -> DeadLetter:
    """Return the dead letter of a message."""
    return DeadLetter(
        topic, message.id, message.received_at, as_bytes(message.body), reason, error, "",
        message.content_type, message.meta,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Wrapped:
    """An envelope whose messages do not become rows now."""

    envelope: Envelope

    @property
    def body(self) -> bytes:
        """Body of the envelope."""
        return self.envelope.body

    @property
    def ledger(self) -> str:
        """Ledger entry of the envelope."""
        return self.envelope.ledger

    @property
    def received_at(self) -> str:
        """Time of the envelope's first message."""
        return self.envelope.received_at


@dataclass(frozen=True, slots=True)
class DeadEnvelope(_Wrapped):
    """An envelope of which every message is a dead letter, for a reason that is no message's."""

    reason: str
    error: str

    def letters(self) -> list[DeadLetter]:
        """Return a letter for each message, or one for all where they can't be told apart."""
        envelope, reason, error = self.envelope, self.reason, self.error
        try:
            messages = addressed(envelope)
        except EnvelopeError as cause:
            whole = Message(
                envelope.id, envelope.received_at, envelope.body, envelope.content_type,
                envelope.meta,
            )  # fmt: skip
            return [dead_letter(envelope.topic, whole, cause.reason, f"{cause}; {error}")]
        return [dead_letter(topic, m, *(m.dead or (reason, error))) for topic, m in messages]


@dataclass(frozen=True, slots=True)
class DelayedEnvelope(_Wrapped):
    """An envelope whose messages wait in the store, and become rows when its `due_at` comes."""


@dataclass(frozen=True, slots=True)
class DueMessages:
    """The delayed messages of the store that are due at the time `at`: they become rows.

    No delivery is one: the worker asks for it itself.
    """

    at: str
    body: bytes = b""
    received_at: str = ""
    ledger: str = ""


@dataclass(frozen=True, slots=True)
class ReplayCopies:
    """Copies of stored messages, which become rows together with their place in a replay.

    `replay` stood at `after`; it stands at `reached` then, with `count` more copies and `gone` more
    messages of which there is none any more. `envelope` is None where there is no copy. Where the
    replay stands elsewhere by now, or was stopped, nothing is stored.

    No delivery is one: the worker asks for it itself.
    """

    replay: str
    after: int
    reached: int
    count: int
    gone: int
    envelope: Envelope | None
    body: bytes = b""
    received_at: str = ""
    ledger: str = ""


@dataclass(frozen=True, slots=True)
class LedgerReport:
    """A ledger entry without a message: `body` is the entry.

    A source sends one when it ends. And an envelope that is stored leaves one, with its
    `received_at`, where its entry is written later.
    """

    body: str | bytes
    received_at: str = ""

    @property
    def ledger(self) -> str | bytes:
        """The entry, under the name that an envelope has it."""
        return self.body


@dataclass(frozen=True, slots=True)
class DeletionMark:
    """The place of a deletion in the queue: what was sent before the deletion is before the mark.

    The mark says only which deletion. What it deletes is in the store, put there by the API:
    another AMQP client can publish a mark too, and can delete nothing by it.
    """

    id: str
    body: bytes = b""
    received_at: str = ""
    ledger: str = ""


Content = (
    Envelope
    | DelayedEnvelope
    | DueMessages
    | ReplayCopies
    | DeadLetter
    | DeadEnvelope
    | LedgerReport
    | DeletionMark
    | HandlerOutcomes
    | ReleasedMessages
)
