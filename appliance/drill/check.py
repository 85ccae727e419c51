"""Compares a store with a journal: each message answered 202 is stored once, whole and in order.

Pure: the rows may come from a database, a copy of one, or a test.
"""

from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from appliance.drill.journal import Fate, Journal, Sheet, number_of

#: How many examples of a kind of fault are kept to be shown.
_EXAMPLES: Final = 5


class StoredRow(NamedTuple):
    """One row of `messages`; the body is text where it was stored as such."""

    topic: str
    id: str
    body: str | bytes


@dataclass
class Fault:
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


class DrillResult:
    """The outcome of a comparison: the rows that were counted, and each kind of fault."""

    def __init__(self, accepted: str = "answered 202") -> None:
        self.stored = 0
        self.missing = Fault(f"{accepted} and missing")
        self.twice = Fault("stored twice")
        #: rows beyond the first of messages whose door promises no more than "at least once"
        self.doubled = 0
        self.alien = Fault("stored but never sent, or changed")
        self.refused = Fault("refused and stored all the same")
        self.renamed = Fault("stored under another id than was answered")
        self.disordered = Fault("stored out of order")
        self.torn = Fault("requests stored in part")

    @property
    def faults(self) -> list[Fault]:
        """The kinds of fault that were found; none where the promise was kept."""
        kinds = (
            self.missing, self.twice, self.alien, self.refused, self.renamed,
            self.disordered, self.torn,
        )  # fmt: skip
        return [kind for kind in kinds if kind.count]


def check(
    journal: Journal,
    rows: Iterable[StoredRow],
    *,
    may_double: Container[str] = (),
    accepted: str = "answered 202",
) -> DrillResult:
    """Compare a journal with all rows of its topics, given in the order of storing.

    `may_double` has the topics whose messages can come twice; `accepted` is the word for what was
    acknowledged.

    A message without a final answer may be there once or not at all. One that was refused must not
    be there. A request is there as a whole or not at all.
    """
    result = DrillResult(accepted)
    seen = {topic: bytearray(len(sheet)) for topic, sheet in journal.sheets.items()}
    last = dict.fromkeys(journal.sheets, -1)
    for row in rows:
        result.stored += 1
        sheet = journal.sheets.get(row.topic)
        number = number_of(row.topic, row.body) if isinstance(row.body, str) else None
        if sheet is None or number is None or number >= len(sheet):
            result.alien.add(f"{row.topic} {row.id} {row.body[:60]!r}")
        elif seen[row.topic][number] and row.topic in may_double:
            result.doubled += 1
        elif seen[row.topic][number]:
            result.twice.add(f"{row.topic} {number}")
        else:
            seen[row.topic][number] = 1
            _judge(result, sheet, number, row)
            if sheet.fate(number) is Fate.ACCEPTED:
                if number < last[row.topic]:
                    result.disordered.add(f"{row.topic} {number} after {last[row.topic]}")
                last[row.topic] = max(last[row.topic], number)
    for topic, sheet in journal.sheets.items():
        _find_gaps(result, sheet, seen[topic])
    return result


def _judge(result: DrillResult, sheet: Sheet, number: int, row: StoredRow) -> None:
    fate = sheet.fate(number)
    if fate is Fate.REFUSED:
        result.refused.add(f"{sheet.topic} {number}")
    elif fate is Fate.ACCEPTED and sheet.id(number) not in ("", row.id):
        result.renamed.add(f"{sheet.topic} {number}: {row.id}, answered {sheet.id(number)}")


def _find_gaps(result: DrillResult, sheet: Sheet, seen: bytearray) -> None:
    """Find missing messages, and requests of which only a part is there."""
    first = 0
    for number in range(len(sheet)):
        if sheet.fate(number) is Fate.ACCEPTED and not seen[number]:
            result.missing.add(f"{sheet.topic} {number} ({sheet.id(number) or 'no id'})")
        if number + 1 == len(sheet) or not sheet.joined(number + 1):
            if 0 < sum(seen[first : number + 1]) < number + 1 - first:
                result.torn.add(f"{sheet.topic} {first} to {number}")
            first = number + 1
