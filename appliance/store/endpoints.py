"""The seam of endpoints: the part of a database in deliveries.

Like `base`, beside which it stands: every method raises StoreError where the database can't be
used, unless its docstring says more.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from appliance.store.access_rows import Deed
from appliance.store.endpoint_rows import (
    AttemptRow,
    DeliveryOutcome,
    DueRow,
    EndpointBacklog,
    EndpointRow,
    LaneRow,
    Outfit,
)
from appliance.store.filters import MessageFilter
from appliance.store.replay_rows import ReplayPart, ReplayWork
from appliance.store.rows import Span, StoredMessage, Stretch


class Endpoints(Protocol):
    """Endpoints, and the messages that could not be delivered; used by any thread of the API.

    A change is on disk together with its entry in the audit trail (`deed`) when the call returns;
    the process that delivers sees it within a second. Methods that add something raise ExistsError
    for a name that is taken, LimitError where there are too many.
    """

    def all(self) -> list[EndpointRow]:
        """Return all endpoints by name."""

    def find(self, name: str) -> EndpointRow | None:
        """Return the endpoint with this name, or None."""

    def outfit(self, name: str) -> Outfit | None:
        """Return the endpoint with this name and the secrets of its requests, or None."""

    def backlog(self, endpoint: EndpointRow) -> EndpointBacklog:
        """Return what an endpoint has before it."""

    def create(
        self,
        endpoint: EndpointRow,
        secrets: Sequence[str],
        headers: Mapping[str, str],
        start: int | None,
        deed: Deed,
    ) -> EndpointRow:
        """Add an endpoint; return it with its id and its cursor.

        It gets the messages behind the seq `start` (0: all), or those that are stored from now on
        (None). `headers` are sent with each request; their values are secrets.
        """

    def update(
        self, endpoint: EndpointRow, headers: Mapping[str, str] | None, deed: Deed
    ) -> EndpointRow | None:
        """Give the endpoint of this name its URL, topics, conditions and settings.

        `headers` are its own headers from now on (None: they stay). Returns None where it was not
        there. Its breaker is closed, so that it is tried at once.
        """

    def pause(self, name: str, reason: str, deed: Deed) -> bool:
        """Let an endpoint get nothing until it is resumed; return whether it was there."""

    def resume(self, name: str, deed: Deed) -> bool:
        """Let an endpoint get messages again, from where it was; return whether it was there.

        Whatever waits for its next attempt is tried at once.
        """

    def remove(self, name: str, deed: Deed) -> bool:
        """Remove an endpoint and all that waits for it; return whether it was there."""

    def add_secret(self, name: str, secret: str, old_until: str | None, deed: Deed) -> int | None:
        """Sign with a further secret; return its id (None: no such endpoint).

        The secrets before it sign too until the time `old_until` at most; None: as they did.
        """

    def remove_secret(self, name: str, secret_id: int, deed: Deed) -> bool:
        """Sign no more with a secret; return whether it was there.

        Raises LimitError for the last one: nothing would be signed.
        """

    def due(self, name: str, state: str | None, span: Span, limit: int) -> list[DueRow]:
        """Return up to `limit` messages of an endpoint whose delivery failed, by their ids.

        They have this state (None: any). The newest first, with `span.after` oldest first. There
        are none where there is no such endpoint.
        """

    def redrive(self, name: str, ids: Sequence[int] | None, deed: Deed) -> int:
        """Have messages that were given up tried again, all for None; return how many.

        They have the endpoint's whole lifetime again.
        """

    def discard(self, name: str, ids: Sequence[int] | None, deed: Deed) -> int:
        """Forget messages that were given up or are gone, all for None; return how many.

        With ids also those that wait for their next attempt.
        """

    def attempts(
        self,
        span: Span,
        limit: int,
        *,
        name: str | None = None,
        message_id: str | None = None,
        failed: bool = False,
    ) -> list[AttemptRow]:
        """Return up to `limit` attempts of an endpoint, of a message, or of both, by their ids.

        The newest first, with `span.after` oldest first; with `failed` those that failed.
        """


class Deliveries(Protocol):
    """What the process that delivers reads and writes; used by one thread at a time."""

    def is_changed(self) -> bool:
        """Whether anything was committed by others since the last call; costs microseconds.

        True where that is not known, as at the first call. Before the database is there: False.
        """

    def has_active(self) -> bool:
        """Whether there is an endpoint that is not paused."""

    def outfits(self) -> list[Outfit]:
        """Return the endpoints that are not paused, with secrets that count now."""

    def end(self) -> int:
        """Return the greatest `seq` that a message ever had; 0 where there was none."""

    def part(
        self, wanted: MessageFilter, after: int, upto: int, limit: int, max_bytes: int
    ) -> Stretch:
        """Return the first messages behind `after`, up to `upto`, that a filter wants."""

    def messages(self, seqs: Sequence[int]) -> list[StoredMessage]:
        """Return those of the messages that are still there."""

    def due(self, endpoint: int, now: float, limit: int) -> list[DueRow]:
        """Return the WAITING messages of an endpoint that are due, the longest due first."""

    def next_due(self, endpoint: int) -> float | None:
        """Return when the next WAITING message of an endpoint is due; None where there is none."""

    def unfinished(self, endpoint: int) -> int:
        """Return how many messages of an endpoint wait or were given up."""

    def ahead(self, endpoint: int, cursor: int) -> frozenset[int]:
        """Return the messages behind a cursor that wait or were given up: they are dealt with."""

    def lanes(self, endpoint: int) -> list[LaneRow]:
        """Return the lanes of an endpoint."""

    def replays(self) -> list[ReplayWork]:
        """Return the running replays to endpoints, the oldest first."""

    def replay_part(self, work: ReplayWork, after: int, limit: int, max_bytes: int) -> ReplayPart:
        """Return the next messages of a replay behind `after`, in a read that is short."""

    def store(self, outcome: DeliveryOutcome) -> None:
        """Store what came of attempts, in one transaction.

        A power cut can undo it, and what was stored before it is then undone no more: cursors go
        back and messages are delivered again, none is passed over. What belongs to an endpoint that
        was removed is left out.
        """

    def sweep(self, kept: int, before: str) -> bool:
        """Delete a part of the oldest attempts beyond `kept`, or from before a time.

        Returns whether there is more to delete.
        """
