"""Rows of handlers: messages that wait for one, and the outcomes of those that were handled."""

from collections.abc import Callable, Collection
from typing import NamedTuple, Protocol

from appliance.store.rows import StoredMessage


class WaitingMessage(NamedTuple):
    """A message that waits for its handler; `attempts` is how often that failed."""

    seq: int
    id: str
    topic: str
    body: str | bytes
    received_at: str
    content_type: str | None
    meta: str | None
    attempts: int
    error: str


class WaitingState(NamedTuple):
    """How a message that waits for its handler stands; `bytes` are those of its body."""

    id: str
    topic: str
    received_at: str
    content_type: str | None
    meta: str | None
    function: str
    attempts: int
    error: str
    bytes: int


class HandledMessage(NamedTuple):
    """What became of a message: `outcome` is `handled`, `dropped` or `dead`."""

    id: str
    topic: str
    handled_at: str
    outcome: str
    results: int


class HandlerReply(NamedTuple):
    """What a handler said of a message: its outcome, and the rows of its results, first to last.

    Those that are too many or too large for one answer are left out; `total` counts all.
    """

    outcome: str
    total: int
    results: list[StoredMessage]
    reason: str | None = None
    error: str | None = None


class FunctionBacklog(NamedTuple):
    """How many messages wait for a function, how many of them failed before, and since when."""

    function: str
    waiting: int
    retrying: int
    oldest_at: str | None


class Handling(Protocol):
    """Hands messages out to handler processes, and tells what became of them.

    What a process has said of a message (`contents.HandlerOutcomes`) a `Writer` stores. A process
    has its messages until then, or until `put_back`; for how long it lives others can see. Every
    method raises StoreError where the database can't be used.
    """

    def take(self, function: str, holder: str, limit: int, most_bytes: int) -> list[WaitingMessage]:
        """Give the process `holder` up to `limit` messages that wait for a function, oldest first.

        One that failed before comes alone: whatever it does to its process, it does to no other.
        A power cut can undo it, as if nothing had been given.
        """

    def put_back(self, holder: str) -> None:
        """Let all messages that `holder` has wait again, as if it had never had them."""

    def recover(self, living: Callable[[], Collection[str]]) -> int:
        """Let messages of processes that live no more wait again; return how many they were.

        Each has failed once more: one of them may have ended its process. `living` is asked while
        nobody else can be given a message: whoever has one by then was there before.
        """

    def backlog(self, most: int = ...) -> list[FunctionBacklog]:
        """Return what waits, by function; of each `most` messages are looked at."""

    def waiting(self, message_id: str) -> WaitingState | None:
        """Return the message with this id, if it waits for its handler."""

    def handled(self, message_id: str) -> HandledMessage | None:
        """Return what became of the message with this id, if it was handled."""

    def forget(self, before: str, limit: int) -> bool:
        """Forget messages that were handled before a time; return whether there may be more."""

    def has_strays(self) -> bool:
        """Whether messages wait for a function that no rule names (see ReleasedMessages)."""

    def close(self) -> None:
        """Close what all threads keep open; what is in use, after its use."""
