"""The tables as a transaction that stores messages asks an engine for them."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from appliance.errors import StoreError
from appliance.model.contents import ReplayCopies
from appliance.model.handler_outcomes import HandlerOutcome
from appliance.model.handler_rules import HandlerRules
from appliance.model.wire import Addressed, Envelope, Message
from appliance.store.sql.handler_tables import SettledMessage
from appliance.store.sql.topic_sums import Sum

#: A row of `messages`, but for its `seq`: id, topic, body, received_at, content_type and meta, the
#: last two empty where there is none.
Row = tuple[str, str, str | bytes, str, str, str]
#: A row of `dead_letters`, but for its `seq`: id, topic, body, reason, error, received_at, dead_at,
#: content_type and meta.
DeadRow = tuple[str, str, bytes, str, str, str, str, str | None, str | None]


class RolledBackError(StoreError):
    """A trigger has ended the whole transaction for one row; it is not known which, if id is ""."""

    def __init__(self, message_id: str, message: str) -> None:
        super().__init__(message)
        self.message_id = message_id


class LinesRefusedError(Exception):
    """One of the lines of an envelope is refused, and none was stored."""


class MessageRows(Protocol):
    """The tables, within a transaction that has begun.

    Every method raises TablesError where the tables are not as they must be, RolledBackError where
    the transaction is gone, and the engine's own error where the database is at fault.
    """

    def last_seq(self) -> int:
        """Return the greatest `seq` that a message ever had; 0 where there was none."""

    def insert(self, rows: Sequence[Row], refused: dict[str, str]) -> int:
        """Insert messages whose id is not there yet; return how many they are.

        One that a constraint or a trigger refuses is left out, and noted in `refused`: id -> the
        database's words.
        """

    def insert_lines(self, envelope: Envelope) -> int:
        """Insert the lines of an envelope whose ids are not there yet; return how many they are.

        Raises EnvelopeError, LinesRefusedError; then none is inserted.
        """

    def find(self, message_id: str) -> tuple[str, str | bytes] | None:
        """Return topic and body of a stored message, or None."""

    def since(self, seq: int) -> Mapping[str, tuple[str, str | bytes]]:
        """Return topic and body of each message behind a place, by id."""

    def is_any_since(self, seq: int) -> bool:
        """Whether there is a message behind a place."""

    def sums_since(self, seq: int) -> list[Sum]:
        """Return the sums of the messages behind a place, one for each topic."""

    def add_to_topics(self, sums: Sequence[Sum]) -> None:
        """Add to the counters of topics.

        Counters that someone's trigger or constraint refuses hold no message up: the janitor
        corrects them, or says why it can't.
        """

    def add_expirations(self, after: int) -> None:
        """Note when messages behind a place are over, of those that have an end."""

    def insert_dead(self, rows: Sequence[DeadRow]) -> None:
        """Insert dead letters; one that is there gets a new time."""

    def place_deletion(self, deletion_id: str) -> None:
        """Note that the mark of an order to delete came."""

    def advance_replay(self, copies: ReplayCopies) -> bool:
        """Note which messages a replay copies; return whether it still stands where they begin."""

    def delay(self, topic: str, message: Message, due_at: str) -> bool:
        """Put a message aside until it is due; return False where its id is another's."""

    def take_due(self, at: str) -> list[Addressed]:
        """Remove messages that are due, and return them as they are stored."""

    def is_known_to_handlers(self, topic: str, message: Message) -> bool | None:
        """Return whether the id is that of this very message; None where it is nobody's."""

    def add_waiting(self, function: str, topic: str, message: Message) -> None:
        """Let a message wait for its handler."""

    def settle(self, holder: str, outcome: HandlerOutcome) -> SettledMessage | None:
        """Note what became of a message; return what is to be stored of it."""

    def take_strays(self, rules: HandlerRules) -> list[Addressed]:
        """Remove messages that wait for a handler that is none any more, and return them."""

    def is_in_hand(self, topic: str, message: Message) -> bool:
        """Whether a message waits for its handler, or was handled."""
