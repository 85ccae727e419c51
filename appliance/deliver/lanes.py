"""Lanes: topics that wait for a message that failed, each at a place of its own. Pure.

The endpoint's cursor passes a topic by that has a lane, so that it holds no other topic up. Once
the message was delivered, the lane goes on with the topic's next ones, until it is where the cursor
is, and ends. So there are never more lanes than topics, however many messages wait in them.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import inf

from appliance.deliver.jobs import Job
from appliance.store.endpoint_rows import LaneRow
from appliance.store.rows import StoredMessage


@dataclass(slots=True)
class Lane:
    """One topic: its row, the messages behind its cursor that were read, whether one is in hand."""

    row: LaneRow
    queue: deque[StoredMessage] = field(default_factory=deque)
    is_busy: bool = False


class Lanes:
    """The lanes of one endpoint, and what of them is to be stored."""

    def __init__(self, rows: Iterable[LaneRow]) -> None:
        self._lanes = {row.topic: Lane(row) for row in rows}
        self._changed: dict[str, LaneRow | None] = {}
        #: no lane is due before
        self._not_before = 0.0

    def __len__(self) -> int:
        return len(self._lanes)

    def __contains__(self, topic: str) -> bool:
        return topic in self._lanes

    def next(self, now: float) -> Lane | None:
        """Return a lane that is due and has no message in hand."""
        if now < self._not_before:
            return None  # there can be thousands
        ready = (each for each in self._lanes.values() if not each.is_busy)
        first = min(ready, key=lambda lane: lane.row.due_at, default=None)
        self._not_before = inf if first is None else first.row.due_at
        return first if self._not_before <= now else None

    @property
    def next_at(self) -> float:
        """When to ask for the next one, at the earliest; infinite where none will be due."""
        return self._not_before

    def take(self, lane: Lane) -> Job:
        """Return the job of a lane's next message, which must have been read."""
        lane.is_busy = True
        return Job(lane.queue[0], lane.row.attempts, lane.row.first_at, is_lane=True)

    def row(self, topic: str) -> LaneRow:
        """Return the row of a lane."""
        return self._lanes[topic].row

    def open(self, row: LaneRow) -> None:
        """Let a topic wait."""
        self._lanes[row.topic] = Lane(row)
        self._note(row)

    def wait(self, topic: str, row: LaneRow) -> None:
        """Let the message in hand wait until its next attempt."""
        lane = self._lanes[topic]
        lane.queue.clear()  # it can be long until then
        lane.row, lane.is_busy = row, False
        self._note(row)

    def advance(self, topic: str, now: float) -> None:
        """Go on behind the message in hand."""
        lane = self._lanes[topic]
        done = lane.queue.popleft()
        lane.row = lane.row._replace(
            cursor=done.seq, attempts=0, first_at=0.0, due_at=now, error=""
        )
        lane.is_busy = False
        self._note(lane.row)

    def close(self, lane: Lane) -> None:
        """End a lane that has caught up."""
        del self._lanes[lane.row.topic]
        self._changed[lane.row.topic] = None

    def _note(self, row: LaneRow) -> None:
        self._changed[row.topic] = row
        self._not_before = min(self._not_before, row.due_at)

    def changes(self) -> Iterator[tuple[str, LaneRow | None]]:
        """Yield what is to be stored since the last call: a topic, and its row or None."""
        changed, self._changed = self._changed, {}
        yield from changed.items()
