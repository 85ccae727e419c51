"""A load for tests of faults: it watches the whole store, and what it saw becomes figures.

Its data folder holds nothing but what such loads sent. So every row must be of a journal of theirs.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from harness import Folder, wait_until
from load import Load, check_sums, wait_drained

from appliance.drill.check import DrillResult, StoredRow, check
from appliance.drill.load import MIXED

#: Statuses that a client may see while something is broken; 0 is no answer.
HONEST = {0, 202, 503}


@dataclass
class Figures:
    """What one load saw: messages sent, answered 202 and stored; requests answered 503 or not at
    all; seconds without any 202; messages answered 202 a second.
    """

    test: str
    sent: int
    accepted: int
    refused: int
    unanswered: int
    stored: int
    outage_seconds: float
    rate: float
    seconds: float
    more: dict[str, object] = field(default_factory=dict)


class WatchedLoad(Load):
    """Some senders repeat what isn't accepted until it is, some send batches.

    `note(kills=3)` adds to the figures. `dying` are topics that may have dead letters.
    """

    dying: frozenset[str] = frozenset()
    #: Seconds for `appliance verify`.
    patience = 60.0

    def __init__(self, target: Folder, name: str, **options) -> None:
        super().__init__(target, name, **{"styles": MIXED, **options})
        self.figures: Figures | None = None
        #: the loads on this folder, this one too: tests may share an appliance
        self._all: list[WatchedLoad] = target.__dict__.setdefault("loads", [])
        self._all.append(self)
        self._more: dict[str, object] = {}
        self._began = 0.0
        self._seconds = 0.0

    def __enter__(self):
        self._began = time.monotonic()
        return super().__enter__()

    def __exit__(self, *error) -> None:
        super().__exit__(*error)
        self._seconds = time.monotonic() - self._began

    def note(self, **more: object) -> None:
        self._more.update(more)

    def verify(self, timeout: float = 90.0) -> DrillResult:
        """Wait until it has healed and is drained, then hold all of it to the promise.

        `appliance verify`, which knows nothing of the journal, must think so too.
        """
        folder, journal = self.stack, self.sending.journal
        wait_until(
            lambda: len(self.rows(folder)) >= journal.accepted,
            "as many rows as were answered 202",
            timeout,
            lambda: f"{self.words(check(journal, self.rows(folder)))}\n{folder.logs()}",
        )
        wait_drained(folder)
        findings = self.verify_at_rest(folder)
        said = folder.cli("verify", timeout=self.patience)
        assert said.returncode == 0, f"{said.stdout}\n{said.stderr}"
        return findings

    def verify_at_rest(self, folder: Folder) -> DrillResult:
        """Hold a folder to the promise in which nothing changes any more: perhaps a copy."""
        findings = check(self.sending.journal, self.rows(folder))
        self.expect(findings)
        assert not findings.faults, f"{self.words(findings)}\n{self.kept_journal(folder)}"
        check_sums(folder, self.topics, self.dying)
        assert folder.query("PRAGMA integrity_check")[0][0] == "ok"
        return findings

    def expect(self, findings: DrillResult) -> None:
        """Take the figures; faults among the findings may be what a test expects."""
        journal = self.sending.journal
        answers = journal.answers
        self.figures = Figures(
            test="",
            sent=journal.sent,
            accepted=journal.accepted,
            refused=answers[503],
            unanswered=answers[0],
            stored=findings.stored,
            outage_seconds=round(journal.longest_outage, 2),
            rate=round(journal.accepted / self._seconds, 1) if self._seconds else 0.0,
            seconds=round(self._seconds, 1),
            more=self._more,
        )
        print(table([self.figures]))
        assert journal.accepted, "nothing was accepted: this proves nothing"
        assert set(answers) <= HONEST, answers

    def rows(self, folder: Folder) -> list[StoredRow]:
        """Return every row of the store but those of other loads, in the order of storing."""
        others = {topic for load in self._all if load is not self for topic in load.topics}
        found = [row["topic"] for row in folder.query("SELECT DISTINCT topic FROM messages")]
        return folder.stored_rows(topic for topic in found if topic not in others)

    def kept_journal(self, folder: Folder) -> str:
        """Write every attempt beside the data folder, for whoever looks for the reason."""
        path = folder.data.parent / "journal.txt"
        with path.open("w") as file:
            file.writelines(f"{attempt}\n" for attempt in self.journal)
        return f"the journal is in {path}"


def table(figures: Iterable[Figures]) -> str:
    """The figures as lines for people."""
    head = ("sent", "202", "503", "no answer", "stored", "outage s", "202/s", "seconds")
    lines = [(*head, "test")]
    for one in figures:
        numbers = (
            one.sent, one.accepted, one.refused, one.unanswered, one.stored, one.outage_seconds,
            one.rate, one.seconds,
        )  # fmt: skip
        more = "".join(f"; {name.replace('_', ' ')} {value}" for name, value in one.more.items())
        lines.append((*(f"{number:,}" for number in numbers), one.test + more))
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            [*(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=False)), line[-1]]
        )
        for line in lines
    )
