"""The result of `appliance verify`, written for people."""

from dataclasses import dataclass
from typing import Any

from appliance.cli.text.words import counted, size
from appliance.model.ledger import Ranges
from appliance.store.verification import Integrity, LedgerSums, Verification


@dataclass
class Queue:
    """The queue as the running API sees it. None is unknown; `reason` says why."""

    #: envelopes that wait
    depth: int | None = None
    workers: int | None = None
    #: confirmed envelopes that are no rows yet
    not_stored: int | None = None
    reason: str | None = None


def lines(verification: Verification, queue: Queue, *, alone: bool) -> list[str]:
    """Return the lines of `appliance verify`; `alone`: the file is not the appliance's own."""
    rows = [("database", verification.database), ("schema", str(verification.schema))]
    if (integrity := verification.integrity) is not None:
        rows.append(("structure", _structure(integrity)))
    if (messages := verification.messages) is not None:
        agree = (
            f"the counters of {counted(messages.wrong_counters, 'topic')} are WRONG"
            if messages.wrong_counters
            else "the counters agree"
        )
        topics = counted(messages.topics, "topic")
        rows.append(("messages", f"{messages.rows:,} in {topics}, {size(messages.bytes)}; {agree}"))
    if (dead := verification.dead_letters) is not None:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in dead.by_reason.items())
        rows.append(("dead letters", f"{dead.total:,}" + (f": {reasons}" if reasons else "")))
    if verification.sources is not None:
        rows.append(("envelopes", _envelopes(verification.sources)))
    rows.append(("queue", _queue(queue)))
    text = [f"{name:<12}  {text}" for name, text in rows]
    text += _details(verification)
    text += [f"yours: {each}" for each in verification.yours]
    text += [f"note: {note}" for note in verification.notes]
    text += [f"WRONG: {problem}" for problem in verification.problems]
    if verification.problems:
        return [*text, counted(len(verification.problems), "problem")]
    return [*text, "all is well" if alone else f"all is well{_waiting_letters(verification)}"]


def _structure(integrity: Integrity) -> str:
    if integrity.errors:
        return f"WRONG ({integrity.check})"
    return "sound" + ("; the schema is WRONG" if integrity.objects else f" ({integrity.check})")


def _waiting_letters(verification: Verification) -> str:
    """Say what to do about dead letters: they are no fault of the store, and wait for a person."""
    count = verification.dead_letters.total if verification.dead_letters is not None else 0
    verb = "waits" if count == 1 else "wait"
    return f"; {counted(count, 'dead letter')} {verb}: appliance dead list" if count else ""


def _envelopes(sources: LedgerSums) -> str:
    missing = f"{sources.missing:,} MISSING" if sources.missing else "none missing"
    processes = f"{sources.total:,} API process{'es' * (sources.total != 1)}"
    text = f"{sources.accounted - sources.not_kept:,} from {processes}, {missing}"
    if sources.not_kept:
        text += f"; {sources.not_kept:,} refused or given up"
    return text


def _queue(queue: Queue) -> str:
    if queue.depth is None:
        return f"unknown: {queue.reason}"
    waiting = f"{counted(queue.depth, 'envelope')} waiting" if queue.depth else "empty"
    return f"{waiting}; {counted(queue.workers or 0, 'worker')} attached"


def _details(verification: Verification) -> list[str]:
    lines: list[str] = []
    if verification.integrity is not None:
        lines += [f"  {error}" for error in verification.integrity.errors]
    if verification.messages is not None:
        for wrong in verification.messages.wrong:
            lines.append(f"  topic {wrong.topic}: kept {_counter(wrong.kept)}")
            lines.append(f"  {'':<6}{'':<{len(wrong.topic)}}  true {_counter(wrong.true)}")
    if verification.sources is not None:
        for gap in verification.sources.gaps:
            if gap.missing:
                lines.append(
                    f"  source {gap.source} ({gap.first_at} to {gap.last_at}): "
                    f"missing {_ranges(gap.missing_ranges)}"
                )
    return lines


def _counter(values: dict[str, Any]) -> str:
    counts = f"{counted(values['messages'], 'message')}, {counted(values['bytes'], 'byte')}"
    return f"{counts}, {values['first_at']} to {values['last_at']}"


def _ranges(ranges: Ranges) -> str:
    return ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in ranges)
