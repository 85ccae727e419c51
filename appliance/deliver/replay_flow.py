"""The flow of a replay to one endpoint: stored messages that are sent again, beside new ones.

It has a place of its own, moved after the fact as the endpoint's is: so a crash repeats what was
under way and passes nothing over.
"""

from collections.abc import Callable
from functools import partial
from math import inf
from typing import Any, Final, Protocol

from appliance.deliver.jobs import Job, JobWindow
from appliance.store.endpoint_rows import DeliveryOutcome
from appliance.store.endpoints import Deliveries
from appliance.store.replay_rows import ReplayPart, ReplayStanding, ReplayWork

#: Messages that are read at once.
_READ_ROWS: Final = 200
#: Messages that are read and not finished: where order is asked for, those of a slow topic wait.
_MOST_OPEN: Final = 1000


class FlowDesk(Protocol):
    """What a flow needs of its surroundings."""

    async def ask(self, work: Callable[[Deliveries], Any]) -> Any:
        """Run `work` in the database's thread. Raises StoreError."""

    def room(self) -> int:
        """Return the bytes of messages that may be read now; 0: none."""


class ReplayFlow:
    """One replay: reads its messages, hands them out as jobs, and counts what came of them."""

    def __init__(self, work: ReplayWork, *, ordered: bool) -> None:
        self.id = work.id
        #: somebody stopped it: what is under way is finished, and nothing is begun
        self.is_stopped = False
        #: attempts under way
        self.busy = 0
        self._work = work
        self._window = JobWindow(work.cursor, ordered=ordered)
        self._held: dict[str, tuple[float, Job]] = {}  # by topic: when it is tried again
        self._is_behind = True  # more can be read at once
        self._sent = self._gone = 0
        self._resolved: list[int] = []
        self._noted_cursor = work.cursor
        self._is_noted_done = False

    @property
    def bytes(self) -> int:
        """Bytes of bodies in hand."""
        return self._window.bytes

    @property
    def is_over(self) -> bool:
        """Whether there is nothing to do for it any more, and nothing of it to be stored."""
        is_at_its_end = self.is_stopped or self._is_noted_done
        return is_at_its_end and not self.busy and not self._is_news()

    @property
    def next_at(self) -> float:
        """Unix time before which there is no job; infinite where something must end first."""
        if self.is_stopped:
            return inf
        if self._is_behind or self._window.has_next:
            return 0.0
        return min((at for at, _ in self._held.values()), default=inf)

    async def next(self, now: float, desk: FlowDesk) -> Job | None:
        """Return a job, which is then in hand; None where there is none now. Raises StoreError."""
        if self.is_stopped:
            return None
        window, self._is_behind = self._window, False
        for topic in [topic for topic, (at, _) in self._held.items() if at <= now]:
            window.put_back(self._held.pop(topic)[1])
        until = self._work.until
        if not window.has_next and window.read_to < until and len(window) < _MOST_OPEN:
            if not (room := desk.room()) and window.bytes:
                return None
            part = await desk.ask(partial(_part, self._work, window.read_to, _READ_ROWS, room))
            window.add(part.rows, part.end)
            self._gone += part.gone
            # Not all at once: a selection can want few of millions.
            self._is_behind = window.read_to < until
        if self.is_stopped or not window.has_next:
            return None
        job = window.take()
        job.replay = self.id
        self.busy += 1
        return job

    def let_go(self) -> None:
        """Note that an attempt is over, whatever came of it."""
        self.busy -= 1

    def succeed(self, job: Job) -> None:
        """Note that a message is delivered."""
        self._sent += 1
        self._resolved.append(job.message.seq)
        self._window.finish(job)

    def pass_over(self, job: Job) -> None:
        """Note that a message was over before its turn."""
        self._gone += 1
        self._window.finish(job)

    def leave(self, job: Job) -> None:
        """Let go of a message that has a row of its own from now on."""
        self._window.finish(job)

    def hold(self, job: Job, due_at: float) -> None:
        """Keep a message in hand until its next attempt: those of its topic wait behind it."""
        self._held[job.message.topic] = (due_at, job)

    def put_back(self, job: Job) -> None:
        """Have a message tried again as if it had not been taken."""
        self._window.put_back(job)

    def collect(self, outcome: DeliveryOutcome, endpoint: int, *, is_late: bool) -> bool:
        """Add how it stands, if there is news; return whether there is.

        A place that only passed messages by is news where `is_late`.
        """
        cursor = self._window.cursor
        if not self._is_news() and not (is_late and cursor != self._noted_cursor):
            return False
        is_done = self._is_done()
        outcome.replays.append(ReplayStanding(self.id, cursor, self._sent, self._gone, is_done))
        outcome.resolved += [(endpoint, seq) for seq in self._resolved]
        self._sent = self._gone = 0
        self._resolved = []
        self._noted_cursor, self._is_noted_done = cursor, is_done
        return True

    def _is_done(self) -> bool:
        return not len(self._window) and self._window.read_to >= self._work.until

    def _is_news(self) -> bool:
        return bool(self._sent or self._gone) or self._is_done() != self._is_noted_done


def _part(work: ReplayWork, after: int, limit: int, room: int, store: Deliveries) -> ReplayPart:
    return store.replay_part(work, after, limit, room)
