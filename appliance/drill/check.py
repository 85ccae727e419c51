"""Holds a store to a journal: what was answered 202 is there once, whole, in order; nothing else.

Pure: the rows may come from a database, a copy of one, or a test.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from appliance.drill.journal import Fate, Journal, Sheet, number_of

#: How many examples of a kind of fault are kept to be shown.
_EXAMPLES: Final = 5


class Stored(NamedTuple):
    """One row of `messages`; the body is text where it was stored as such."""

    topic: str
    id: str
    body: str | bytes


@dataclass
class Kind:
    """One kind of fault: how often it was found, and the first few, in words."""

    name: str
    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, example: str) -> None:
        """Count one more."""
        self.count += 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append(example)

    def __str__(self) -> str:
        more = ", ..." if self.count > len(self.examples) else ""
        return f"{self.count} {self.name}: {', '.join(self.examples)}{more}"


class Findings:
    """What a comparison found. Each kind of fault has a name of its own; `stored` counts rows."""

    def __init__(self) -> None:
        self.stored = 0
        self.missing = Kind("answered 202 and missing")
        self.twice = Kind("stored twice")
        self.alien = Kind("stored but never sent, or changed")
        self.refused = Kind("refused and stored all the same")
        self.renamed = Kind("stored under another id than was answered")
        self.disordered = Kind("stored out of order")
        self.torn = Kind("requests stored in part")

    @property
    def faults(self) -> list[Kind]:
        """The kinds of fault that were found; none where the promise was kept."""
        kinds = (
            self.missing, self.twice, self.alien, self.refused, self.renamed,
            self.disordered, self.torn,
        )  # fmt: skip
        return [kind for kind in kinds if kind.count]


def check(journal: Journal, rows: Iterable[Stored]) -> Findings:
    """Compare a journal with all rows of its topics, given in the order of storing.

    A message without a final answer may be there once or not at all. One that was refused must not
    be there. A request is there as a whole or not at all.
    """
    findings = Findings()
    seen = {topic: bytearray(len(sheet)) for topic, sheet in journal.sheets.items()}
    last = dict.fromkeys(journal.sheets, -1)
    for row in rows:
        findings.stored += 1
        sheet = journal.sheets.get(row.topic)
        number = number_of(row.topic, row.body) if isinstance(row.body, str) else None
        if sheet is None or number is None or number >= len(sheet):
            findings.alien.add(f"{row.topic} {row.id} {row.body[:60]!r}")
        elif seen[row.topic][number]:
            findings.twice.add(f"{row.topic} {number}")
        else:
            seen[row.topic][number] = 1
            _judge(findings, sheet, number, row)
            if sheet.fate(number) is Fate.ACCEPTED:
                if number < last[row.topic]:
                    findings.disordered.add(f"{row.topic} {number} after {last[row.topic]}")
                last[row.topic] = max(last[row.topic], number)
    for topic, sheet in journal.sheets.items():
        _find_gaps(findings, sheet, seen[topic])
    return findings


def _judge(findings: Findings, sheet: Sheet, number: int, row: Stored) -> None:
    fate = sheet.fate(number)
    if fate is Fate.REFUSED:
        findings.refused.add(f"{sheet.topic} {number}")
    elif fate is Fate.ACCEPTED and sheet.id(number) != row.id:
        findings.renamed.add(f"{sheet.topic} {number}: {row.id}, answered {sheet.id(number)}")


def _find_gaps(findings: Findings, sheet: Sheet, seen: bytearray) -> None:
    """Find what is missing, and the requests of which only a part is there."""
    first = 0
    for number in range(len(sheet)):
        if sheet.fate(number) is Fate.ACCEPTED and not seen[number]:
            findings.missing.add(f"{sheet.topic} {number} ({sheet.id(number)})")
        if number + 1 == len(sheet) or not sheet.joined(number + 1):
            if 0 < sum(seen[first : number + 1]) < number + 1 - first:
                findings.torn.add(f"{sheet.topic} {first} to {number}")
            first = number + 1
