"""Jobs: messages in hand, each with the place that it is from and the attempts made so far. Pure.

The window is the part of all messages that lies between an endpoint's cursor and how far was read:
whatever in it is finished or not, the cursor stays below the lowest one that is not.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from appliance.store.endpoint_rows import DueRow
from appliance.store.rows import StoredMessage


@dataclass(slots=True)
class Job:
    """One message that is to be delivered.

    `attempts` were made before, the first at `first_at` (Unix time, 0: none). `due` is its row
    where it is from there, `is_lane` says that it is from its topic's lane; else it is of a
    window. `replay` is the id of the replay that it is of; None: it is a new one. A job that
    `is_probe` decides whether an open breaker closes.
    """

    message: StoredMessage
    attempts: int = 0
    first_at: float = 0.0
    due: DueRow | None = None
    is_lane: bool = False
    is_probe: bool = False
    replay: str | None = None


class JobWindow:
    """Messages that were read and are not finished.

    In an `ordered` one, a topic has one message in hand at most.
    """

    def __init__(self, cursor: int, *, ordered: bool) -> None:
        self.read_to = cursor
        self.bytes = 0
        self._ordered = ordered
        self._unfinished: dict[int, None] = {}  # in order
        self._lines: dict[str, deque[Job]] = {}  # by topic; one line where order is not asked for
        self._ready: deque[str] = deque()  # lines of which the first job can be taken

    def __len__(self) -> int:
        return len(self._unfinished)

    @property
    def cursor(self) -> int:
        """The place up to which all messages are dealt with."""
        return next(iter(self._unfinished)) - 1 if self._unfinished else self.read_to

    @property
    def has_next(self) -> bool:
        """Whether a job can be taken."""
        return bool(self._ready)

    def add(self, rows: Iterable[StoredMessage], end: int) -> None:
        """Take in messages that were read, which are all that there are up to `end`."""
        for row in rows:
            self._unfinished[row.seq] = None
            self.bytes += len(row.body)
            key = self._key(row)
            if (line := self._lines.get(key)) is None:
                line = self._lines[key] = deque()
                self._ready.append(key)
            line.append(Job(row))
        self.read_to = end

    def take(self) -> Job:
        """Return the next job; it is then in hand."""
        key = self._ready.popleft()
        line = self._lines[key]
        job = line.popleft()
        if not self._ordered:
            if line:
                self._ready.appendleft(key)
            else:
                del self._lines[key]
        return job

    def put_back(self, job: Job) -> None:
        """Have a job taken again, before the others of its line."""
        key = self._key(job.message)
        line = self._lines.setdefault(key, deque())
        line.appendleft(job)
        if self._ordered or len(line) == 1:
            self._ready.append(key)

    def finish(self, job: Job) -> None:
        """Let go of a job in hand that is dealt with."""
        self._forget(job)
        key = self._key(job.message)
        if self._ordered:
            if self._lines[key]:
                self._ready.append(key)
            else:
                del self._lines[key]

    def leave_topic(self, job: Job) -> None:
        """Let go of a job in hand, and of all of its topic: a lane goes on with them."""
        self._forget(job)
        for other in self._lines.pop(job.message.topic, ()):
            self._forget(other)

    def _forget(self, job: Job) -> None:
        del self._unfinished[job.message.seq]
        self.bytes -= len(job.message.body)

    def _key(self, message: StoredMessage) -> str:
        return message.topic if self._ordered else ""
