"""Cutting the power of an appliance under load, and what it makes of the disk afterwards."""

import contextlib
import itertools
import random
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from disk import Disk
from harness import Stack, wait_until
from load import Attempt, Load, Style, check_sums, wait_drained

from appliance.drill.check import check
from appliance.drill.journal import Fate, Journal
from appliance.drill.load import BATCH

#: Seconds that a message may take to come out of the queue after a start, on a busy machine,
#: before it counts as lost.
PATIENCE = 30.0


@dataclass(frozen=True, eq=False)
class Cut:
    """The disk at an instant, and what the client knew then. Times in seconds."""

    name: str
    image: Path
    known: Journal
    took: float
    during: bool = True  # whether it fell into what it was meant to fall into


@dataclass
class Outcome:
    """What an appliance that was started on a cut made of it."""

    name: str
    took: float
    during: bool
    accepted: int = 0
    from_queue: int = 0  # of those, what was not in the database yet
    lost: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)


class Bench:
    """An appliance whose data lies on a disk that the power can be taken from."""

    def __init__(self, folder: Path, workers: int = 1, **settings: str) -> None:
        self._folder = folder
        self._settings = settings
        self._numbers = itertools.count()
        self.disk = Disk(folder)
        self.stack = self._stack("live", workers)

    def _stack(self, name: str, workers: int = 1) -> Stack:
        folder = self._folder / name
        folder.mkdir()
        return Stack(folder, workers, {**self._settings, "data": self.disk.files / "data"})

    def start(self) -> Stack:
        return self.prepare(self.stack).start()

    def prepare(self, stack: Stack) -> Stack:
        """Change a stack before it starts; controls do."""
        return stack

    def cut(self, *loads: Load, during: bool = True) -> Cut:
        """Take the disk as it is now, and note what was answered before that began."""
        name = f"cut-{next(self._numbers)}"
        before = [len(load.journal) for load in loads]
        began = time.monotonic()
        image = self.disk.cut(name)
        took = time.monotonic() - began
        known = Journal()
        for load, answered in zip(loads, before, strict=True):
            note_until(known, load, answered)
        return Cut(name, image, known, took, during)

    def cut_during(
        self, work: Callable[[], object], count: int, *loads: Load, pause: float = 0.002
    ) -> list[Cut]:
        """Cut again and again while `work` runs; return `count` of them at random, or fewer.

        `work` runs in a thread of its own and ends by itself; `pause` in seconds.
        """
        cuts = []
        with ThreadPoolExecutor(1) as pool:
            job = pool.submit(work)
            while not job.done():
                cut = self.cut(*loads)
                cuts.append(replace(cut, during=not job.done()))
                time.sleep(random.uniform(0, pause))
            job.result()
        within = [cut for cut in cuts if cut.during] or cuts
        chosen = random.sample(within, min(count, len(within)))
        for cut in cuts:
            if cut not in chosen:
                cut.image.unlink()
        return chosen

    def examine(self, cut: Cut, patience: float = PATIENCE, verify: bool = True) -> Outcome:
        """Start a fresh appliance on a cut and hold it to what the client knew.

        The one that runs has ended and its disk is off. `verify`: ask `appliance verify` too.
        """
        outcome = Outcome(cut.name, cut.took, cut.during, accepted=cut.known.accepted)
        began = time.monotonic()
        with self.disk.after(cut.image):
            stack = self.prepare(self._stack(cut.name))
            try:
                self._hold(stack, cut, outcome, patience)
                if verify and not outcome.faults:
                    verified = stack.cli("verify")
                    assert verified.returncode == 0, verified.stdout.decode()
            except (AssertionError, sqlite3.Error) as error:
                outcome.faults.append(f"{type(error).__name__}: {error}")
            finally:
                stack.close()
        outcome.seconds = time.monotonic() - began
        return outcome

    def _hold(self, stack: Stack, cut: Cut, outcome: Outcome, patience: float) -> None:
        topics = sorted(cut.known.sheets)
        self.boot(stack)
        outcome.from_queue = check(cut.known, stack.stored_rows(topics)).missing.count
        self.go(stack)
        # What waits in the queue is stored before it, so that then all of it is there.
        answer = stack.publish("after-the-cut", "hello", Prefer="wait=30")
        assert answer.status_code == 201, f"it takes no more: {answer.text}\n{stack.logs()}"
        with contextlib.suppress(AssertionError):  # what is missing then is found below
            wait_until(lambda: _count(stack, topics) >= cut.known.accepted, "all rows", patience)
        self.drain(stack)
        findings = check(cut.known, stack.stored_rows(topics))
        outcome.lost = findings.missing.count
        outcome.faults += [str(kind) for kind in findings.faults]
        check_sums(stack, [*topics, "after-the-cut"])
        assert stack.query("PRAGMA integrity_check")[0][0] == "ok"
        assert stack.query("PRAGMA journal_mode")[0][0] == "wal"

    def boot(self, stack: Stack) -> None:
        """Start what is needed to look at the database; nothing is taken from the queue yet."""
        stack.broker.start()
        migrated = stack.cli("migrate")
        assert migrated.returncode == 0, migrated.stderr.decode()

    def go(self, stack: Stack) -> None:
        """Start the rest, and wait until a message would be kept and stored."""
        for process in (stack.api, *stack.workers):
            process.start()
        stack.wait_ready()

    def drain(self, stack: Stack) -> None:
        """Wait until nothing waits in the queue."""
        wait_drained(stack)

    def power_off(self) -> None:
        """End everything at once; what it would still have written is of no interest."""
        self.stack.close()
        self.disk.off()

    def close(self) -> None:
        self.stack.close()
        self.disk.close()


def note_until(known: Journal, load: Load, answered: int) -> None:
    """Note the first `answered` attempts of a load, and that nothing is known of what follows.

    What follows is what was on its way while the copy was taken: answered since, or not yet.
    """
    attempts = list(load.journal)
    following = dict.fromkeys(load.styles, 0)
    for place, attempt in enumerate(attempts):
        known.note(attempt if place < answered else replace(attempt, status=0))
        retried = (
            attempt.fate is not Fate.ACCEPTED and load.styles[attempt.topic] is not Style.PLAIN
        )
        following[attempt.topic] = attempt.first + (0 if retried else attempt.count)
    for topic, first in following.items():
        count = BATCH if load.styles[topic] is Style.BATCH else 1
        known.note(Attempt(topic, first, count, 0, (), 0.0, 0.0))


def _count(stack: Stack, topics: list[str]) -> int:
    marks = ",".join("?" * len(topics))
    return stack.query(f"SELECT count(*) FROM messages WHERE topic IN ({marks})", *topics)[0][0]


def kept(outcomes: list[Outcome]) -> list[Outcome]:
    """Hold every outcome to the promise; say which cuts broke it, and how."""
    broken = {outcome.name: outcome.faults for outcome in outcomes if outcome.faults}
    words = [f"{name}:\n{chr(10).join(faults)}" for name, faults in broken.items()]
    assert not broken, f"{len(broken)} of {len(outcomes)} cuts\n" + "\n".join(words)
    return outcomes
