"""One load against one side: send it, follow it into the database, say what it cost."""

import json
import os
import select
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property

from bench.database import rows_of
from bench.harness import BenchError, machine_cpu_seconds, python, wait_at_rest
from bench.load import Load, Outcome
from bench.sides.base import Side

#: Seconds between two looks at the database while a load runs: the error of a rate's end.
_LOOK = 0.01
#: Seconds without a new row after which what is missing is called lost.
_PATIENCE = 20.0


#: Share of all CPUs that others use, above which a round may be repeated and the report warns.
BUSY = 0.15


@dataclass
class Measurement:
    """What came of one load. Rates are per second, latencies in milliseconds."""

    scenario: str
    side: str
    round: int
    rate: float
    accepted: int = 0
    stored: int = 0
    #: requests that were not answered 202, by status
    failed: dict[str, int] = field(default_factory=dict)
    #: rows that are missing, or twice, or were never accepted: 0 is what everyone should have
    wrong_rows: int = 0
    p50: float = 0.0
    p99: float = 0.0
    #: microseconds of CPU per message, by role
    cpu_us: dict[str, float] = field(default_factory=dict)
    #: shares of all CPUs' time: the load generator's, and everyone's who is not measured here
    generator_share: float = 0.0
    others_share: float = 0.0
    #: paced loads only: milliseconds from sending and from the 202 to the commit
    commit: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Usage:
    """CPU seconds until now: of the machine, of this process and the children it has waited for."""

    time: float
    machine: float
    harness: float

    @classmethod
    def now(cls) -> "Usage":
        own = os.times()
        harness = own.user + own.system + own.children_user + own.children_system
        return cls(time.monotonic(), machine_cpu_seconds(), harness)


def _disturbance(found: Sequence[Measurement]) -> float:
    return max(measured.others_share for measured in found)


class Generator:
    """The load generator, in a process of its own."""

    def __init__(self, load: Load) -> None:
        self._process = subprocess.Popen(
            python("bench.load"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._answer = self._process.stdout
        self._process.stdin.write(json.dumps(asdict(load)))
        self._process.stdin.close()

    def running(self) -> bool:
        """Whether it still sends."""
        return not select.select([self._answer], [], [], 0)[0]

    @cached_property
    def outcome(self) -> Outcome:
        """What came of the load; waits for it."""
        text = self._answer.read()
        if self._process.wait():
            raise BenchError(f"the load generator ended with {self._process.returncode}")
        return Outcome(**json.loads(text))


class Meter:
    """Measures; numbers requests so that no two loads on one database share tags."""

    def __init__(self, cpus: int, say: Callable[[str], None], repeats: int = 0) -> None:
        self.say = say
        self.repeated = 0
        self._cpus = cpus
        self._repeats = repeats
        self._next: dict[int, int] = {}

    def in_turn(
        self, rounds: int, measures: Sequence[Callable[[int], Measurement]]
    ) -> list[Measurement]:
        """Let each side have its turn in each round, A B C, A B C.

        A round during which others used much of the machine is repeated, where that was asked
        for: as a whole, whatever its figures were; the least disturbed attempt is kept.
        """
        found = []
        for round_ in range(rounds):
            attempts = []
            while len(attempts) <= self._repeats:
                attempts.append([measure(round_) for measure in measures])
                if _disturbance(attempts[-1]) <= BUSY:
                    break
            self.repeated += len(attempts) - 1
            found += min(attempts, key=_disturbance)
        return found

    def others(self, begun: "Usage", own: float) -> float:
        """Share of all CPUs that was used since `begun` and is not `own` seconds of ours."""
        now = Usage.now()
        used = now.machine - begun.machine - own - (now.harness - begun.harness)
        return max(used, 0.0) / (now.time - begun.time) / self._cpus

    def measure(
        self,
        scenario: str,
        side: Side,
        load: Load,
        round_: int = 0,
        during: Callable[[int], None] | None = None,
    ) -> tuple[Measurement, Outcome]:
        """Send `load` and wait until all that was accepted is stored.

        `during` is called at every look, with the number of rows stored so far.
        """
        side.check()
        wait_at_rest([program for each in side.programs.values() for program in each])
        load.first = self._next.get(side.port, 0)  # of all that goes into one database
        cpu, begun = side.cpu_seconds(), Usage.now()
        outcome, stored, wrong, last = _follow(side, load, during)
        wall = time.monotonic() - begun.time
        spent = {role: after - cpu[role] for role, after in side.cpu_seconds().items()}
        self._next[side.port] = load.first + outcome.sent
        accepted = outcome.ok * max(load.lines, 1)
        measured = Measurement(
            scenario=scenario,
            side=side.name,
            round=round_,
            rate=stored / (last - outcome.started),
            accepted=accepted,
            stored=stored,
            failed=outcome.failed,
            wrong_rows=wrong,
            p50=1000 * quantile(outcome.latencies, 0.5),
            p99=1000 * quantile(outcome.latencies, 0.99),
            cpu_us={role: 1e6 * seconds / max(accepted, 1) for role, seconds in spent.items()},
            generator_share=outcome.cpu_seconds / wall / self._cpus,
            others_share=self.others(begun, sum(spent.values())),
        )
        self.say(
            f"  {scenario} | {side.name}: {measured.rate:,.0f}/s"
            + (f"; {wrong} rows WRONG" if wrong else "")
            + (f"; not accepted: {outcome.failed}" if outcome.failed else "")
        )
        return measured, outcome


def _follow(
    side: Side, load: Load, during: Callable[[int], None] | None
) -> tuple[Outcome, int, int, float]:
    """Return the outcome, the rows stored, the wrong ones, and when the last one was seen."""
    if side.database is None:
        outcome = Generator(load).outcome
        return outcome, outcome.ok, 0, outcome.ended
    rows = rows_of(side.database)
    try:
        base = newest = rows.last()
        changed = time.monotonic()
        generator = Generator(load)
        while True:
            running = generator.running()
            if (now := rows.last()) != newest:
                newest, changed = now, time.monotonic()
            if during:
                during(newest - base)
            if not running:
                expected = generator.outcome.ok * max(load.lines, 1)
                if newest - base >= expected and rows.count(base)[1] >= expected:
                    break
                if time.monotonic() - changed > _PATIENCE:
                    break
            side.check()
            time.sleep(_LOOK)
        stored, different = rows.count(base)
        outcome = generator.outcome
        return outcome, stored, wrong_rows(outcome, load, stored, different), changed
    finally:
        rows.close()


def wrong_rows(outcome: Outcome, load: Load, stored: int, different: int) -> int:
    """Return how many rows are missing, twice, or were never accepted.

    A request that got no answer or a 503 may have been kept or not: such rows are allowed for.
    """
    each = max(load.lines, 1)
    expected, uncertain = outcome.ok * each, sum(outcome.failed.values()) * each
    twice = stored - different
    missing = max(expected - different, 0)
    unasked = max(different - expected - uncertain, 0)
    return twice + missing + unasked


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the quantile of sorted values, 0 where there are none."""
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0
