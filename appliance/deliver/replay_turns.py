"""Whose turn it is at an endpoint: a replay's or new messages', and which of several replays.

New messages don't wait for a replay, nor does a replay wait for a time when there are none: while
both have something to send, one attempt of four is a replay's, and never more than half of those
under way. Replays of one endpoint go one after another, the oldest first.
"""

import time
from collections import Counter
from collections.abc import Iterable
from math import inf
from typing import Final

from appliance.deliver.jobs import Job
from appliance.deliver.replay_flow import FlowDesk, ReplayFlow
from appliance.store.endpoint_rows import DeliveryOutcome
from appliance.store.replay_rows import ReplayStanding, ReplayWork

#: While new messages wait, one of so many attempts is a replay's.
_ONE_OF: Final = 4
#: Seconds after which a place is stored that only passed messages by.
_PLACE_SECONDS: Final = 2.0


class ReplayTurns:
    """The replays of one endpoint."""

    def __init__(self, endpoint: int, *, ordered: bool, concurrency: int) -> None:
        self._endpoint = endpoint
        self._ordered = ordered
        self._most = max(1, concurrency // 2)
        self._flow: ReplayFlow | None = None  # the one whose messages are sent now
        self._turn = 0
        self._works: list[ReplayWork] = []
        self._ended: set[str] = set()  # which the database may not know yet
        self._late: Counter[str] = Counter()
        self._placed_at = 0.0

    @property
    def bytes(self) -> int:
        """Bytes of bodies in hand."""
        return self._flow.bytes if self._flow else 0

    @property
    def next_at(self) -> float:
        """Unix time before which there is no job; infinite where something must end first."""
        if self._flow is None or self._flow.busy >= self._most:
            return inf
        return self._flow.next_at

    def tell(self, works: Iterable[ReplayWork]) -> None:
        """Say which replays of the endpoint are running, the oldest first."""
        self._works = [work for work in works if work.id not in self._ended]
        if self._flow is not None:
            self._flow.is_stopped = all(work.id != self._flow.id for work in self._works)
        self._choose()

    def is_turn(self, *, new_wait: bool) -> bool:
        """Whether the next attempt should be a replay's; `new_wait`: there are new messages."""
        if self._flow is None or not new_wait:
            return self._flow is not None
        self._turn += 1
        return self._turn % _ONE_OF == 0

    async def next(self, now: float, desk: FlowDesk) -> Job | None:
        """Return the replay's next job, if it may begin one. Raises StoreError."""
        if self._flow is None or self._flow.busy >= self._most:
            return None
        return await self._flow.next(now, desk)

    def of(self, job: Job) -> ReplayFlow | None:
        """Return the replay that a job is of; None for any other, and for one with a row."""
        return self._flow if job.replay and job.due is None else None

    def late(self, replay: str) -> None:
        """Note that a message of a replay is delivered which had a row of its own."""
        self._late[replay] += 1

    def collect(self, outcome: DeliveryOutcome, *, all_of_it: bool) -> bool:
        """Add what came of replays since the last call; return whether there was anything."""
        is_news = bool(self._late)
        outcome.replays += [ReplayStanding(name, sent=n) for name, n in self._late.items()]
        self._late.clear()
        if self._flow is not None:
            now = time.monotonic()
            is_late = all_of_it or now > self._placed_at + _PLACE_SECONDS
            if self._flow.collect(outcome, self._endpoint, is_late=is_late):
                is_news, self._placed_at = True, now
            self._choose()
        return is_news

    def _choose(self) -> None:
        """Go on with the next one where nothing is left to do for this one."""
        if self._flow is not None:
            if not self._flow.is_over:
                return
            if not self._flow.is_stopped:
                self._ended.add(self._flow.id)
            self._works = [work for work in self._works if work.id != self._flow.id]
            self._flow = None
        if self._works:
            self._flow = ReplayFlow(self._works[0], ordered=self._ordered)
