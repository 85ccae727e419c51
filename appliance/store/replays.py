"""The seam of replays: the part of a database in sending stored messages again.

Like `base`, beside which it stands: every method raises StoreError where the database can't be
used, unless its docstring says more.
"""

from typing import Protocol

from appliance.store.access_rows import Deed
from appliance.store.replay_rows import (
    ReplayChoice,
    ReplayPart,
    ReplayRow,
    ReplaySelection,
    ReplayWork,
)


class Replays(Protocol):
    """Replays, as administrators ask for them; used by any thread.

    A change is on disk together with its entry in the audit trail when the call returns; whoever
    does the work sees it within a second.
    """

    def choose(self, selection: ReplaySelection) -> ReplayChoice:
        """Return what a selection comes to now.

        Counting ends after some seconds. Raises InputError for a query that is none, that would
        write or read a secret, that finds anything but numbers, or too many of them, or that takes
        too long; SearchBusyError where others' queries are under way.
        """

    def create(self, row: ReplayRow, choice: ReplayChoice, deed: Deed) -> ReplayRow:
        """Add a replay of a choice. Raises LimitError where too many are not done yet."""

    def find(self, replay_id: str) -> ReplayRow | None:
        """Return the replay with this id, or None."""

    def newest(self, limit: int) -> list[ReplayRow]:
        """Return up to `limit` replays, the newest first."""

    def set_state(self, replay_id: str, before: str, state: str, deed: Deed) -> ReplayRow | None:
        """Give a replay another state, where it has the state `before`; return it (None: none).

        Where it has another one it stays as it is.
        """

    def next_copy(self) -> ReplayWork | None:
        """Return the oldest running replay to a topic, or None. Costs microseconds."""

    def part(self, work: ReplayWork, after: int, limit: int, max_bytes: int) -> ReplayPart:
        """Return the next messages of a replay behind `after`, in a read that is short."""

    def look_away(self) -> None:
        """Close what the looks of all threads keep open; what is in use, after its use."""
