"""A load for tests of faults: it watches the whole store, and what it saw becomes figures.

Its data folder holds nothing but what such loads sent. So every row must be of a journal of theirs.
"""

import json
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness import Folder, wait_until
from load import Attempt, Load, check_sums, wait_drained
from ways import MIXED, UNHANDLED, RealSenders, RoutedJournal, Way

from appliance.drill import load as drill
from appliance.drill.check import DrillResult, StoredRow, check
from appliance.drill.journal import Fate, number_of

#: Statuses that a client may see while something is broken; 0 is no answer.
HONEST = {0, 202, 503}


@dataclass
class Figures:
    """What one load saw: messages sent, answered 202 and stored, and dead letters, all of them on
    purpose; requests answered 503 or not at all; seconds without any 202; messages answered 202 a
    second.
    """

    test: str
    sent: int
    accepted: int
    refused: int
    unanswered: int
    stored: int
    dead: int
    outage_seconds: float
    rate: float
    seconds: float
    more: dict[str, object] = field(default_factory=dict)


class WatchedLoad(Load):
    """A sender for each of `ways`, again from the first where there are more senders.

    Signed webhooks, packed bodies, batches with bad lines and what goes into the quarantine are
    among them. `note(kills=3)` adds to the figures.
    """

    #: Seconds for `appliance verify`.
    patience = 60.0
    #: Seconds between a sender's requests: a thousand messages a second leave the processor to what
    #: is to be seen, and most faults last until something is noticed.
    pause = 0.01

    def __init__(
        self,
        target: Folder,
        name: str,
        *,
        senders: int = len(MIXED),
        ways: Sequence[Way] = UNHANDLED,
        **options: Any,
    ) -> None:
        #: topic -> how its sender sends
        self.ways = {f"{name}-{n}": ways[n % len(ways)] for n in range(senders)}
        self._accepted_by = Counter(dict.fromkeys(self.ways, 0))  # requests, by topic
        self._routed = RoutedJournal(self.ways)
        super().__init__(target, name, senders=senders, **{"pause": self.pause, **options})
        self.figures: Figures | None = None
        #: the loads on this folder, this one too: tests may share an appliance
        self._all: list[WatchedLoad] = target.__dict__.setdefault("loads", [])
        self._all.append(self)
        self._more: dict[str, object] = {}
        self._began = 0.0
        self._seconds = 0.0

    def make_sending(self, *arguments: Any, **options: Any) -> drill.Load:
        options.pop("styles")  # each way has one
        return RealSenders(*arguments, ways=self.ways, journal=self._routed, **options)

    def saw(self, attempt: Attempt) -> None:
        super().saw(attempt)
        self._accepted_by[attempt.topic] += attempt.fate is Fate.ACCEPTED

    def __enter__(self):
        self._began = time.monotonic()
        return super().__enter__()

    def __exit__(self, *error) -> None:
        super().__exit__(*error)
        self._seconds = time.monotonic() - self._began

    def note(self, **more: object) -> None:
        self._more.update(more)

    def wait_some_accepted(self, more: int, timeout: float = 60.0) -> None:
        """Wait until `more` further messages were accepted, of whichever senders."""
        super().wait_accepted(more, timeout)

    def wait_accepted(self, more: int, timeout: float = 60.0) -> None:
        """Wait until `more` further messages were accepted, and a request of every sender."""
        before = Counter(self._accepted_by)
        super().wait_accepted(more, timeout)
        wait_until(
            lambda: all(self._accepted_by[topic] > before[topic] for topic in self.ways),
            "something of every sender is accepted",
            timeout,
            lambda: f"{self.silent(before)}\n{self.journal[-9:]}\n{self.stack.logs()}",
        )

    @property
    def dead_accepted(self) -> int:
        """How many messages were answered 202 that are to be dead letters."""
        return self._routed.dead.accepted

    def silent(self, before: Counter[str]) -> dict[str, Way]:
        """Return the topics of which nothing was accepted since then."""
        return {t: way for t, way in self.ways.items() if self._accepted_by[t] == before[t]}

    def verify(self, timeout: float = 90.0) -> DrillResult:
        """Wait until it has healed and is drained, then hold all of it to the promise.

        `appliance verify`, which knows nothing of the journal, must think so too.
        """
        folder, dead = self.stack, self._routed.dead
        wait_until(
            lambda: (
                len(self.rows(folder)) >= self._routed.accepted
                and len(self.letters(folder)) >= dead.accepted
            ),
            "as many rows and dead letters as were answered 202",
            timeout,
            lambda: (
                f"{self.words(self.check())}\n{self.words(self.check_letters())}\n{folder.logs()}"
            ),
        )
        self.wait_drained()
        findings = self.verify_at_rest(folder)
        said = folder.cli("verify", timeout=self.patience)
        assert said.returncode == 0, f"{said.stdout}\n{said.stderr}"
        return findings

    def wait_drained(self) -> None:
        """Wait until nothing waits in the queue or for a handler, and nothing more is stored."""
        wait_drained(self.stack)
        wait_until(
            lambda: not self.stack.query("SELECT count(*) FROM handler_messages")[0][0],
            "nothing waits for its handler",
            60,
            self.stack.logs,
        )

    def findings(self) -> DrillResult:
        """Compare the store with the journal, and take the figures: a loss may be expected."""
        found = self.check()
        self.expect(found, self.check_letters())
        return found

    def verify_at_rest(self, folder: Folder) -> DrillResult:
        """Hold a folder to the promise in which nothing changes any more: perhaps a copy."""
        findings, letters = self.check(folder), self.check_letters(folder)
        self.expect(findings, letters)
        assert not findings.faults, f"{self.words(findings)}\n{self.kept_journal(folder)}"
        assert not letters.faults, f"dead: {self.words(letters)}\n{self.kept_journal(folder)}"
        dying = {topic for topic, way in self.ways.items() if way is Way.BAD_LINES}
        check_sums(folder, self.topics, dying)
        folder.check_sound()
        return findings

    def expect(self, findings: DrillResult, letters: DrillResult) -> None:
        """Take the figures; faults among the findings may be what a test expects."""
        journal = self.sending.journal
        answers = journal.answers + self._routed.dead.answers
        self.figures = Figures(
            test="",
            sent=journal.sent,
            accepted=journal.accepted,
            refused=answers[503],
            unanswered=answers[0],
            stored=findings.stored,
            dead=letters.stored,
            outage_seconds=round(journal.longest_outage, 2),
            rate=round(journal.accepted / self._seconds, 1) if self._seconds else 0.0,
            seconds=round(self._seconds, 1),
            more=self._more,
        )
        print(table([self.figures]))
        assert journal.accepted, "nothing was accepted: this proves nothing"
        assert set(answers) <= HONEST, answers

    def check(self, folder: Folder | None = None) -> DrillResult:
        """Compare the rows with the journal as it is now.

        Several processes handle what comes one after another; the order is that of each result
        among those of its message.
        """
        rows = sorted(self.rows(folder or self.stack), key=self._message_of)
        return check(self._routed, rows)

    def check_letters(self, folder: Folder | None = None) -> DrillResult:
        """Compare the dead letters with what is to be one."""
        return check(self._routed.dead, self.letters(folder or self.stack))

    def rows(self, folder: Folder) -> list[StoredRow]:
        """Return every row of the store but those of other loads, in the order of storing."""
        others = self._of_others()
        found = [row["topic"] for row in folder.query("SELECT DISTINCT topic FROM messages")]
        return self.rows_of(folder, [topic for topic in found if topic not in others])

    def rows_of(self, folder: Folder, topics: Iterable[str]) -> list[StoredRow]:
        """Return the rows of these topics; one that was a JSON string is what that says."""
        return [
            row._replace(body=json.loads(row.body))
            if self.ways.get(row.topic) in (Way.BAD_LINES, Way.HANDLED)
            else row
            for row in folder.stored_rows(topics)
        ]

    def letters(self, folder: Folder) -> list[StoredRow]:
        """Return every dead letter but those of other loads, in the order of storing.

        The ids of bad lines are not told, so each has that of the good line before it.
        """
        rows, others = [], self._of_others()
        query = "SELECT topic, id, CAST(body AS TEXT) FROM dead_letters ORDER BY seq"
        for topic, message_id, body in folder.query(query):
            if topic in others:
                continue
            sheet, answered = self._routed.dead.sheets.get(topic), message_id
            if sheet is not None and self.ways.get(topic) is Way.BAD_LINES:
                number = number_of(topic, body)
                if number is not None and number < len(sheet):
                    answered = sheet.id(number)
            rows.append(StoredRow(topic, answered, body))
        return rows

    def _message_of(self, row: StoredRow) -> int:
        """Return which message of a handled topic a row is a result of; 0 of every other topic."""
        if self.ways.get(row.topic) is not Way.HANDLED or not isinstance(row.body, str):
            return 0
        return (number_of(row.topic, row.body) or 0) // drill.BATCH

    def _of_others(self) -> set[str]:
        return {topic for load in self._all if load is not self for topic in load.ways}

    def kept_journal(self, folder: Folder) -> str:
        """Write every attempt beside the data folder, for whoever looks for the reason."""
        path = folder.data.parent / "journal.txt"
        with path.open("w") as file:
            file.writelines(f"{attempt}\n" for attempt in self.journal)
        return f"the journal is in {path}"


def table(figures: Iterable[Figures]) -> str:
    """The figures as lines for people."""
    head = ("sent", "202", "503", "no answer", "stored", "dead", "outage s", "202/s", "seconds")
    lines = [(*head, "test")]
    for one in figures:
        numbers = (
            one.sent, one.accepted, one.refused, one.unanswered, one.stored, one.dead,
            one.outage_seconds, one.rate, one.seconds,
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
