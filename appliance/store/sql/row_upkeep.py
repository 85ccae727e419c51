"""The janitor's duties for rows, whatever the engine: recount, and delete by rules."""

import time
from collections.abc import Sequence
from typing import Any, Final, Protocol

import structlog

from appliance.machine.complaint import Complaint
from appliance.model.retention import Rules
from appliance.store.base import Duty, Rest
from appliance.store.sql.database import SqlDatabase
from appliance.store.sql.expirer import Expirer
from appliance.store.sql.sweeper import Sweeper, Swept

#: Seconds between two looks for messages to delete.
_SWEEP_EVERY: Final = 60.0
#: Seconds between two recounts; after a long one, so many times as long as it took.
_RECOUNT_EVERY: Final = 60.0
_RECOUNT_PART: Final = 100.0
#: The same for recounts of all rows, those included that were counted before.
_WHOLE_EVERY: Final = 600.0
_WHOLE_PART: Final = 1000.0
#: Topics that the log names.
_MOST_NAMED: Final = 10

_log: Any = structlog.get_logger(__name__)


class Recount(Protocol):
    """Corrects the counters of topics."""

    def run(self, *, whole: bool) -> list[str]:
        """Correct those that differ from their rows; return the topics. Raises StoreError.

        `whole`: of all rows, else of those that were not counted yet.
        """


class RowUpkeep:
    """Looks after the rows of a database; used by one thread."""

    def __init__(self, database: SqlDatabase, rules: Rules, rest: Rest, recount: Recount) -> None:
        self._recount = recount
        self._whole_due = 0.0
        self._expirer = Expirer(database, rest)
        self._sweeper = Sweeper(database, rules, rest) if rules else None

    def duties(self) -> Sequence[Duty]:
        """Return the duties; the last one only where there are retention rules."""
        duties = [
            Duty(
                self.recount,
                _RECOUNT_EVERY,
                Complaint(_log, "recount failed", "recount works again"),
            ),
            Duty(
                self.expire,
                _SWEEP_EVERY,
                Complaint(_log, "expiry failed", "expiry works again"),
            ),
        ]
        if self._sweeper is not None:
            complaint = Complaint(_log, "retention failed", "retention works again")
            duties.append(Duty(self.sweep, _SWEEP_EVERY, complaint))
        return duties

    def recount(self) -> float:
        """Correct counters that differ from their rows; return the seconds until the next look.

        Raises StoreError.
        """
        began = time.monotonic()
        whole = began >= self._whole_due
        topics = self._recount.run(whole=whole)
        seconds = time.monotonic() - began
        if whole:
            self._whole_due = began + max(_WHOLE_EVERY, _WHOLE_PART * seconds)
        if topics:
            _log.info(
                "counters corrected",
                topics=len(topics),
                named=topics[:_MOST_NAMED],
                seconds=round(seconds, 1),
            )
        return max(_RECOUNT_EVERY, _RECOUNT_PART * seconds)

    def expire(self) -> float:
        """Delete the messages that are over; return the seconds until the next look.

        Raises StoreError.
        """
        swept = self._expirer.sweep()
        if swept.rows:
            _log.info("expired messages deleted", **_numbers(swept))
        return _SWEEP_EVERY

    def sweep(self) -> float:
        """Delete the messages that the rules don't keep; return the seconds until the next look.

        Raises StoreError.
        """
        if self._sweeper is None:
            return _SWEEP_EVERY
        swept = self._sweeper.sweep()
        if swept.rows or swept.pages:
            _log.info("messages deleted", **_numbers(swept))
        return _SWEEP_EVERY


def _numbers(swept: Swept) -> dict[str, float]:
    """Return what was deleted as fields of the log."""
    return {
        "messages": swept.rows,
        "bytes": swept.bytes,
        "pages_freed": swept.pages,
        "seconds": round(swept.seconds, 1),
        "longest_transaction": round(swept.longest_hold, 3),
    }
