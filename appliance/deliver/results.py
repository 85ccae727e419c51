"""The results of a courier's attempts, gathered until they are stored together with its cursor."""

import time
from typing import Any, Final

from appliance.deliver.breaker import Breaker
from appliance.deliver.jobs import Job
from appliance.deliver.lanes import Lanes
from appliance.model import timestamps
from appliance.store.endpoint_rows import (
    GIVEN_UP,
    GONE,
    WAITING,
    AttemptRow,
    DeliveryOutcome,
    DueRow,
    EndpointStanding,
    LaneRow,
    Pause,
)

#: Seconds after which a cursor is stored that only passed messages by.
_CURSOR_SECONDS: Final = 2.0


class Results:
    """What came of the attempts of one endpoint since they were last collected."""

    def __init__(self, endpoint: int, cursor: int, log: Any) -> None:
        self.pause = ""
        self._id = endpoint
        self._log = log
        self._standing = EndpointStanding(cursor)
        self._attempts: list[AttemptRow] = []
        self._due: list[DueRow] = []
        self._done: list[int] = []
        self._given_up = self._gone = 0
        self._stored_cursor, self._stored_at = cursor, 0.0

    def attempted(
        self, job: Job, began: float, seconds: float, status: int | None, words: str, answer: bytes
    ) -> None:
        """Note an attempt, which `words` say why it failed (empty: it did not)."""
        message = job.message
        self._attempts.append(
            AttemptRow(
                0, self._id, message.seq, message.id, message.topic, job.attempts,
                timestamps.timestamp(began), int(seconds * 1000), status, words, _shown(answer),
            )
        )  # fmt: skip
        if words:
            self._standing.failed += 1
        else:
            self._standing.delivered += 1
            self._standing.delivered_at = timestamps.now()

    def done(self, row: DueRow) -> None:
        """Note that the message of a due row is delivered."""
        self._done.append(row.id)

    def lose(self, row: DueRow) -> None:
        """Note that a message was deleted before it could be delivered."""
        words = "the message was deleted, or over, before it could be delivered"
        self._due.append(row._replace(state=GONE, due_at=None, error=words))
        self._standing.gone += 1
        self._gone += 1

    def pass_over(self) -> None:
        """Note that a message was over before its first delivery."""
        self._standing.gone += 1

    def wait(self, job: Job, status: int | None, words: str, due_at: float | None) -> None:
        """Let a message wait until a Unix time; None: give it up."""
        message, state = job.message, GIVEN_UP if due_at is None else WAITING
        row = job.due or DueRow(
            0, self._id, message.seq, message.id, message.topic, state, 0, job.first_at, None,
            None, "", job.replay,
        )  # fmt: skip
        self._due.append(
            row._replace(
                state=state, attempts=job.attempts, due_at=due_at, status=status, error=words
            )
        )
        if due_at is None:
            self._standing.given_up += 1
            self._given_up += 1

    def lane(self, job: Job, words: str, due_at: float) -> LaneRow:
        """Return the row of a lane that waits for a message."""
        message = job.message
        return LaneRow(
            self._id, message.topic, message.seq - 1, job.attempts, job.first_at, due_at, words
        )

    def collect(
        self,
        outcome: DeliveryOutcome,
        cursor: int,
        lanes: Lanes,
        breaker: Breaker | None,
        *,
        all_of_it: bool,
        has_more: bool = False,
    ) -> list[int] | None:
        """Add everything since the last call; return the due rows that it settles, 0 for a new one.

        None where there is nothing; `has_more` says that others have added something. A cursor
        that only passed messages by can wait, unless `all_of_it` is asked for.
        """
        changed, now = list(lanes.changes()), time.monotonic()
        is_news = has_more or self._attempts or self._due or self._done or changed or self.pause
        is_late = all_of_it or now > self._stored_at + _CURSOR_SECONDS
        if not is_news and not (is_late and cursor != self._stored_cursor):
            return None
        standing = self._standing
        standing.cursor = cursor
        if breaker is not None:
            standing.failures, standing.trouble = breaker.failures, breaker.trouble
            standing.broken_at, standing.retry_at = breaker.broken_at, breaker.retry_at
        outcome.attempts += self._attempts
        outcome.due += self._due
        outcome.done += self._done
        outcome.lanes += [row for _, row in changed if row is not None]
        outcome.closed += [(self._id, topic) for topic, row in changed if row is None]
        outcome.standings[self._id] = standing
        if self.pause:
            outcome.pauses.append(Pause(self._id, self.pause))
        settled = [row.id for row in self._due] + self._done
        self._tell()
        self._attempts, self._due, self._done, self.pause = [], [], [], ""
        self._standing = EndpointStanding(cursor)
        self._stored_cursor, self._stored_at = cursor, now
        return settled

    def _tell(self) -> None:
        """Log what is lost to the endpoint unless somebody does something: once for many."""
        if self._given_up:
            last = next(row for row in reversed(self._due) if row.state == GIVEN_UP)
            self._log.warning(
                "delivery given up",
                messages=self._given_up,
                message=last.message_id,
                topic=last.topic,
                error=last.error,
            )
        if self._gone:
            self._log.warning("message gone before its delivery", messages=self._gone)
        self._given_up = self._gone = 0


def _shown(answer: bytes) -> str:
    """Return how an answer begins as text that every program can show."""
    return answer.decode("utf-8", "replace").replace("\0", "\ufffd")
