"""Sums of counters, dead letters and the ledger for `appliance verify`, in both engines' SQL."""

from collections.abc import Iterable
from typing import Any, Final

from appliance.errors import StoreError
from appliance.model import ledger
from appliance.store.sql import ledger_table
from appliance.store.verification import (
    DeadLetterSums,
    LedgerGap,
    LedgerSums,
    MessageSums,
    Verification,
    WrongCounter,
)

#: Topics and sources that are reported one by one.
_MOST_NAMED: Final = 20

_SOURCES: Final = """
    SELECT source, accounted, settled, not_kept, missing, accepted, first_at, last_at
    FROM sources ORDER BY first_at, source
"""


def message_sums(topics: Iterable[Any]) -> MessageSums:
    """Return the sums of rows that have a topic, its four counters, and the four of its rows."""
    rows = size = count = wrong_counters = 0
    wrong: list[WrongCounter] = []
    names = ("messages", "bytes", "first_at", "last_at")
    for topic, *values in topics:
        counter, actual = values[:4], values[4:]
        rows, size, count = rows + actual[0], size + actual[1], count + 1
        if not agree(counter, actual):
            wrong_counters += 1
            if len(wrong) < _MOST_NAMED:
                both = (dict(zip(names, side, strict=True)) for side in (counter, actual))
                wrong.append(WrongCounter(topic, *both))
    return MessageSums(rows, size, count, wrong_counters, wrong)


def agree(kept: Any, actual: Any) -> bool:
    """Whether a topic's counters (messages, bytes, first and last time) are those of its rows.

    Retention moves the first time forward in steps, and can leave the last time; so the times of
    the rows must only lie within those of the counters.
    """
    messages, size, first, last = kept or (0, 0, None, None)
    within = not actual[0] or (first or "") <= actual[2] <= actual[3] <= (last or "")
    return [messages, size] == list(actual[:2]) and within


def dead_letter_sums(connection: Any, also_stored: str) -> DeadLetterSums:
    """Return the number of dead letters; `also_stored` is the query for those that are rows."""
    by_reason = dict(
        connection.execute(
            "SELECT reason, count(*) FROM dead_letters GROUP BY reason ORDER BY reason"
        ).fetchall()
    )
    count = connection.execute(also_stored).fetchone()[0]
    return DeadLetterSums(sum(by_reason.values()), by_reason, count)


def ledger_sums(connection: Any, problems: list[str]) -> LedgerSums:
    """Return the sums of the ledger; what can't be read of it is added to the problems."""
    sums = LedgerSums(0, 0, 0, 0, 0, 0, [])
    for source, text, settled, *counts, first_at, last_at in connection.execute(_SOURCES):
        not_kept, missing, accepted = counts
        try:
            accounted = ledger_table.ranges(text)
        except StoreError as error:
            problems.append(f"source {source}: {error}")
            continue
        lost = ledger.holes(accounted, 0, settled)
        unknown = ledger.holes(accounted, settled, accounted[-1][1] if accounted else 0)
        sums.total += 1
        sums.accounted += ledger.count(accounted)
        sums.not_kept += not_kept
        sums.missing += missing
        sums.accepted += accepted
        sums.unknown += ledger.count(unknown)
        if missing or unknown:
            pairs = (missing, lost[-_MOST_NAMED:], ledger.count(unknown), unknown)
            sums.gaps.append(LedgerGap(source, *pairs, first_at, last_at))
    sums.gaps = sorted(sums.gaps, key=lambda gap: -gap.missing)[:_MOST_NAMED]
    return sums


def judge_counters(result: Verification, sums: MessageSums) -> None:
    """Add what wrong counters mean."""
    if sums.wrong_counters:
        result.problems.append(
            f"topics with wrong counters: {sums.wrong_counters:,}; the janitor "
            "corrects them later, `appliance verify --repair` at once"
        )


def judge_letters(result: Verification, sums: DeadLetterSums) -> None:
    """Add what it means that a dead letter is stored as well."""
    if sums.also_stored:
        # No fault: a process was killed between a redrive's publish and the letter's removal.
        result.notes.append(
            "dead letters whose message is also stored, left by an interrupted redrive; "
            f"discard them: {sums.also_stored:,}"
        )


def judge_ledger(result: Verification, sums: LedgerSums) -> None:
    """Add what the ledger means."""
    if sums.missing:
        result.problems.append(missing_text(sums.missing))
    if sums.accepted:
        result.notes.append(f"envelopes that were missing, accepted as such: {sums.accepted:,}")


def missing_text(count: int) -> str:
    """Return the problem of so many missing envelopes."""
    return (
        f"envelopes missing: {count:,}; the broker had confirmed them, and they never came to the "
        "store"
    )
