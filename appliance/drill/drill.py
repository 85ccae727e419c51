"""The drill itself: start, load, kill, heal, count."""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from appliance.drill.check import DrillResult, StoredRow, check
from appliance.drill.drilled_doors import DrilledDoor
from appliance.drill.journal import Journal
from appliance.drill.kill import PROGRAMS, Killer
from appliance.drill.load import Load
from appliance.drill.scratch import Scratch
from appliance.errors import ApplianceError
from appliance.machine.fsync_times import fsync_seconds, percentile

#: Seconds for a start, for healing after the last kill, and for storing what is still queued.
_START_SECONDS: Final = 120.0
_HEAL_SECONDS: Final = 120.0
_DRAIN_SECONDS: Final = 300.0
#: Seconds for which the disk's syncs are timed.
_FSYNC_SECONDS: Final = 5.0
#: Seconds between two looks while something is waited for; and for which nothing may change.
_LOOK_SECONDS: Final = 0.25
_QUIET_SECONDS: Final = 1.0
#: The same where fewer messages are stored than were accepted: longer than a worker waits between
#: two attempts to store. What is not there then is missing.
_STALLED_SECONDS: Final = 15.0


@dataclass(frozen=True)
class Plan:
    """How long (seconds), over how many connections, and how many messages a second at most."""

    seconds: float
    connections: int
    rate: float | None
    door: DrilledDoor


@dataclass
class DrillReport:
    """The outcome of a drill. Counts are of messages; times are in seconds."""

    door: str = "http"
    #: the word for what was acknowledged
    word: str = "answered 202"
    sent: int = 0
    accepted: int = 0
    stored: int = 0
    missing: int = 0
    #: rows beyond the first of a message; those that the door says can come are `doubled` too
    twice: int = 0
    doubled: int = 0
    #: every fault in words, whatever its kind; empty where the promise was kept
    faults: list[str] = field(default_factory=list)
    #: requests
    refused: int = 0
    unanswered: int = 0
    seconds: float = 0.0
    longest_outage: float = 0.0
    fsync_p50: float = 0.0
    fsync_p99: float = 0.0
    kills: dict[str, int] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Acknowledged messages a second."""
        return self.accepted / self.seconds if self.seconds else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return it for machines."""
        return {
            "door": self.door,
            "kept": not self.faults,
            "sent": self.sent,
            "accepted": self.accepted,
            "stored": self.stored,
            "missing": self.missing,
            "twice": self.twice,
            "doubled": self.doubled,
            "faults": self.faults,
            "refused_requests": self.refused,
            "unanswered_requests": self.unanswered,
            "seconds": round(self.seconds, 1),
            "rate": round(self.rate, 1),
            "longest_outage_seconds": round(self.longest_outage, 2),
            "fsync_p50_ms": round(self.fsync_p50 * 1000, 2),
            "fsync_p99_ms": round(self.fsync_p99 * 1000, 2),
            "kills": self.kills,
        }


class Drill:
    """One drill on a scratch appliance.

    `load` makes the load once the appliance runs. `rows` reads every row of the store, `problems`
    checks the store and returns what is broken; both are called when the scratch appliance has
    ended. `show` gets the progress in words, a few times a second. `stop`, once set, ends it early:
    it still heals and counts.
    """

    def __init__(
        self,
        scratch: Scratch,
        plan: Plan,
        *,
        load: Callable[[Plan, Scratch, Journal], Load],
        rows: Callable[[], Iterable[tuple[str, str, str | bytes]]],
        problems: Callable[[], list[str]],
        show: Callable[[str], object],
        stop: threading.Event,
    ) -> None:
        self._scratch = scratch
        self._plan = plan
        self._load = load
        self._rows = rows
        self._problems = problems
        self._show = show
        self._stop = stop
        self._journal = Journal()
        self._killer = Killer(scratch.processes, lambda: self._journal.accepted)
        self._report = DrillReport(plan.door.name, plan.door.accepted)
        self._may_double: frozenset[str] = frozenset()

    def run(self) -> DrillReport:
        """Run the drill; the report lists every breach of the promise.

        Raises ApplianceError where the scratch appliance can't be started. It has ended when this
        returns or raises.
        """
        try:
            self._measure_disk()
            self._scratch.start()
            if self._scratch.wait_ready(
                _START_SECONDS, give_up=self._start_given_up(time.monotonic())
            ):
                try:
                    self._break_it()
                    self._drain()
                except ApplianceError as error:  # it gave up, or does not heal: a finding
                    self._report.faults.append(str(error))
        finally:
            status = self._scratch.end()
        if status and not self._report.faults:
            self._report.faults.append(f"the scratch appliance ended with status {status}")
        self._count()
        return self._report

    def _start_given_up(self, began: float) -> Callable[[], bool]:
        """Return what the wait for the start calls: it shows the time, and heeds `stop`."""

        def given_up() -> bool:
            seconds = time.monotonic() - began
            self._show(f"starting a scratch appliance (about 10 s): {seconds:.0f} s")
            return self._stop.is_set()

        return given_up

    def _measure_disk(self) -> None:
        try:
            seconds = fsync_seconds(self._scratch.folder, _FSYNC_SECONDS)
        except OSError as error:
            raise ApplianceError(f"{self._scratch.folder}: {error.strerror}") from error
        self._report.fsync_p50 = percentile(seconds, 0.5)
        self._report.fsync_p99 = percentile(seconds, 0.99)

    def _break_it(self) -> None:
        """Load and kill for as long as asked, then until messages are accepted again."""
        plan, scratch = self._plan, self._scratch
        began = time.monotonic()
        load = self._load(plan, scratch, self._journal)
        self._may_double = frozenset(
            topic for topic, style in load.styles.items() if style in plan.door.doubling
        )
        try:
            with load:
                killing = threading.Event()
                thread = threading.Thread(target=self._killer.run, args=(killing,), daemon=True)
                thread.start()
                try:
                    self._wait(began, lambda: time.monotonic() - began >= plan.seconds)
                finally:
                    killing.set()
                    thread.join()
                before, healing = self._journal.accepted, time.monotonic()
                self._wait(
                    began,
                    lambda: (
                        self._journal.accepted > before
                        or time.monotonic() - healing > _HEAL_SECONDS
                    ),
                    heed_stop=False,
                )
        except TimeoutError as error:
            raise ApplianceError(str(error)) from error
        finally:
            self._report.seconds = time.monotonic() - began

    def _wait(self, began: float, over: Callable[[], bool], *, heed_stop: bool = True) -> None:
        while not over() and not (heed_stop and self._stop.is_set()):
            self._scratch.check_alive()
            self._show(self._progress(time.monotonic() - began))
            time.sleep(_LOOK_SECONDS)

    def _progress(self, seconds: float) -> str:
        kills = ", ".join(f"{name} {self._killer.kills[name]}" for name in PROGRAMS)
        over = self._stop.is_set() or seconds > self._plan.seconds
        phase = "healing" if over else f"{seconds:.0f} s of {self._plan.seconds:.0f}"
        journal = self._journal
        return (
            f"{phase}: {journal.sent:,} sent, {journal.accepted:,} {self._report.word}, "
            f"none for {journal.outage:.1f} s; killed: {kills}"
        )

    def _drain(self) -> None:
        """Wait until it is ready, nothing is queued and nothing more is stored."""
        self._show("waiting until it is healed")
        self._scratch.wait_ready(_HEAL_SECONDS, give_up=lambda: False)
        deadline, quiet_since = time.monotonic() + _DRAIN_SECONDS, 0.0
        before = -1
        while time.monotonic() < deadline:
            self._scratch.check_alive()
            status = self._scratch.ask("/v1/status") or {}
            depth: int | None = (status.get("broker") or {}).get("depth")
            stored = int((status.get("store") or {}).get("messages", 0))
            self._show(f"{depth} envelopes are queued, {stored} messages stored")
            now = time.monotonic()
            is_all = stored >= self._journal.accepted
            if depth != 0 or stored != before:
                quiet_since, before = now, stored
            elif now - quiet_since >= (_QUIET_SECONDS if is_all else _STALLED_SECONDS):
                return
            time.sleep(_LOOK_SECONDS)
        raise ApplianceError(
            f"it did not store all within {_DRAIN_SECONDS:g} s: {depth} envelopes are still queued"
        )

    def _count(self) -> None:
        """Compare the journal with the rows, now that nothing runs."""
        self._show("counting")
        report, journal = self._report, self._journal
        report.sent, report.accepted = journal.sent, journal.accepted
        report.refused, report.unanswered = journal.answers[503], journal.answers[0]
        report.longest_outage = journal.longest_outage
        report.kills = dict(self._killer.kills)
        odd = {status for status in journal.answers if status not in (0, 201, 202, 503)}
        report.faults += [f"requests were answered {status}" for status in sorted(odd)]
        if not journal.sent:
            return
        try:
            result: DrillResult = check(
                journal, (StoredRow(*row) for row in self._rows()),
                may_double=self._may_double, accepted=report.word,
            )  # fmt: skip
            report.faults += [str(kind) for kind in result.faults] + self._problems()
        except ApplianceError as error:
            report.faults.append(str(error))
            return
        report.stored = result.stored
        report.missing, report.doubled = result.missing.count, result.doubled
        report.twice = result.twice.count + result.doubled
