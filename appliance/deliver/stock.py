"""The stock of a courier: where its next message comes from.

From four places: rows of messages that failed and are due again, lanes of topics that wait, the
window of messages behind the cursor, and replays. Whatever is read is bounded in rows and bytes.
"""

from collections import deque
from collections.abc import Callable
from functools import partial
from math import inf
from typing import Any, Final, NamedTuple, Protocol

from appliance.deliver.delivery_plan import DeliveryPlan
from appliance.deliver.jobs import Job, JobWindow
from appliance.deliver.lanes import Lane, Lanes
from appliance.deliver.replay_turns import ReplayTurns
from appliance.machine.complaint import Complaint
from appliance.store.endpoint_rows import DueRow, LaneRow
from appliance.store.endpoints import Deliveries
from appliance.store.filters import MessageFilter
from appliance.store.rows import StoredMessage, Stretch

#: Messages that are read at once, and those of a lane.
_READ_ROWS: Final = 200
_LANE_ROWS: Final = 20
#: Messages that are read and not finished: where order is asked for, those of a slow topic wait.
_MOST_OPEN: Final = 2000
#: Messages of an endpoint that wait or were given up. With more the cursor stays: nothing grows for
#: ever.
MOST_UNFINISHED: Final = 100_000


class CourierDesk(Protocol):
    """What couriers share: the database's thread, how far messages go, and room in memory."""

    end: int
    is_held: bool

    async def ask(self, work: Callable[[Deliveries], Any]) -> Any:
        """Run `work` in the database's thread. Raises StoreError."""

    def room(self) -> int:
        """Return the bytes of messages that a courier may read now; 0: none."""


class CourierBegin(NamedTuple):
    """What a courier finds when it begins: lanes, and messages that wait or were given up.

    Of those, `ahead` are behind the cursor: they are not read a second time.
    """

    lanes: list[LaneRow]
    unfinished: int
    ahead: frozenset[int]


class Stock:
    """Reads messages, and hands them out one by one as jobs.

    `lose` is called with the row of a message that was deleted meanwhile. `crowded` is told whether
    there is so much undelivered that the cursor stays.
    """

    def __init__(
        self,
        plan: DeliveryPlan,
        desk: CourierDesk,
        begin: CourierBegin,
        lose: Callable[[DueRow], None],
        crowded: Complaint,
    ) -> None:
        self.window = JobWindow(plan.outfit.row.cursor, ordered=plan.settings.ordered)
        self.lanes = Lanes(begin.lanes)
        self.replays = ReplayTurns(
            plan.outfit.row.id,
            ordered=plan.settings.ordered,
            concurrency=plan.settings.concurrency,
        )
        #: messages of the endpoint that wait or were given up
        self.unfinished = begin.unfinished
        self._plan = plan
        self._desk = desk
        self._lose = lose
        self._crowded = crowded
        self._ahead = begin.ahead
        self._ready: deque[Job] = deque()  # of due rows, with their messages
        self._in_hand: set[int] = set()  # due rows: read, and not stored again yet
        self._next_due = 0.0  # when to look for due rows
        self._is_behind = False  # more can be read at once
        self._busy = 0  # due rows that are being tried
        self._bodies = 0  # bytes in hand that are not of the window

    @property
    def bytes(self) -> int:
        """Bytes of bodies in hand."""
        return self.window.bytes + self._bodies + self.replays.bytes

    @property
    def next_at(self) -> float:
        """Unix time before which there is no job; infinite where only others can tell."""
        if self._is_behind and not self.is_crowded:
            return 0.0
        next_due = inf if self._is_due_full or not self._has_room else self._next_due
        replays = inf if self.is_crowded else self.replays.next_at
        return min(next_due, self.lanes.next_at, replays)

    @property
    def is_crowded(self) -> bool:
        """Whether so much is undelivered that the cursor stays."""
        return self.unfinished >= MOST_UNFINISHED

    def look_for_due(self) -> None:
        """Look for due rows at the next call: others may have made some due."""
        self._next_due = 0.0

    async def next(self, now: float) -> Job | None:
        """Return a job, which is then in hand; None where there is none now. Raises StoreError."""
        job = await self._of_due_rows(now) or await self._of_lanes(now)
        if job is not None:
            return job
        if self.is_crowded:
            self._crowded.fails(messages=self.unfinished)
            return None
        self._crowded.works()
        window, desk = self.window, self._desk
        self._is_behind = False
        if self.replays.is_turn(new_wait=window.has_next or window.read_to < desk.end):
            job = await self.replays.next(now, desk)
            if job is not None:
                return job
        if not window.has_next and window.read_to < desk.end and len(window) < _MOST_OPEN:
            if not (room := desk.room()) and window.bytes:
                return None
            part = await desk.ask(
                partial(_part, self._plan.filter, window.read_to, desk.end, _READ_ROWS, room)
            )
            rows = [row for row in part.rows if row.topic not in self.lanes]
            window.add([row for row in rows if row.seq not in self._ahead], part.end)
            # Not all at once: a filter can want few of millions, and rows fall due meanwhile.
            self._is_behind = window.read_to < desk.end
        return window.take() if window.has_next else await self.replays.next(now, desk)

    def let_go(self, job: Job) -> None:
        """Note that an attempt is over, whatever came of it."""
        if job.due is not None:
            self._busy -= 1
        elif (flow := self.replays.of(job)) is not None:
            flow.let_go()
        if job.due is not None or job.is_lane:
            self._bodies -= len(job.message.body)

    def put_back(self, job: Job) -> None:
        """Have a message tried again as if it had not been taken."""
        if job.due is not None:
            self._in_hand.discard(job.due.id)
            self._next_due = 0.0
        elif (flow := self.replays.of(job)) is not None:
            flow.put_back(job)
        elif job.is_lane:
            self.lanes.wait(job.message.topic, self.lanes.row(job.message.topic))
        else:
            self.window.put_back(job)

    def settle(self, rows: list[int]) -> None:
        """Note that what became of due rows is stored."""
        self._in_hand.difference_update(rows)
        self.unfinished -= len(rows)
        self._next_due = 0.0

    @property
    def _is_due_full(self) -> bool:
        """Whether half of what may be under way are attempts of due rows: the others' turn."""
        return 2 * self._busy >= max(2, self._plan.settings.concurrency)

    @property
    def _has_room(self) -> bool:
        """Whether due rows may be read: there is room, or nothing in hand that makes some."""
        return bool(self._desk.room()) or not self._bodies

    async def _of_due_rows(self, now: float) -> Job | None:
        if self._is_due_full:
            return None
        if not self._ready and now >= self._next_due and self._has_room:
            await self._read_due_rows(now)
        if not self._ready:
            return None
        self._busy += 1
        return self._ready.popleft()

    async def _read_due_rows(self, now: float) -> None:
        number, desk = self._plan.outfit.row.id, self._desk
        most = self._plan.settings.concurrency + len(self._in_hand)
        due, after = await desk.ask(lambda d: (d.due(number, now, most), d.next_due(number)))
        if len(due) < most:
            # One that is in hand is looked for again when it is stored.
            self._next_due = inf if after is None or after <= now else after
        due = [row for row in due if row.id not in self._in_hand]
        seqs = [row.seq for row in due]
        found = await desk.ask(lambda d: d.messages(seqs)) if due else []
        messages: dict[int, StoredMessage] = {each.seq: each for each in found}
        for row in due:
            self._in_hand.add(row.id)
            if (message := messages.get(row.seq)) is None:
                self.unfinished += 1  # its row stays
                self._lose(row)
            else:
                self._ready.append(
                    Job(message, row.attempts, row.first_at, due=row, replay=row.replay)
                )
                self._bodies += len(message.body)

    async def _of_lanes(self, now: float) -> Job | None:
        window = self.window
        while lane := self.lanes.next(now):
            if not lane.queue:
                upto = window.read_to
                await self._read_lane(lane, upto)
                if not lane.queue:
                    if upto == window.read_to:
                        self.lanes.close(lane)
                    continue
            job = self.lanes.take(lane)
            self._bodies += len(job.message.body)
            return job
        return None

    async def _read_lane(self, lane: Lane, upto: int) -> None:
        wanted, after = self._plan.of_topic(lane.row.topic), lane.row.cursor
        part = await self._desk.ask(
            partial(_part, wanted, after, upto, _LANE_ROWS, self._desk.room() or 1)
        )
        lane.queue.extend(part.rows)


def _part(
    wanted: MessageFilter, after: int, upto: int, limit: int, room: int, store: Deliveries
) -> Stretch:
    return store.part(wanted, after, upto, limit, room)
