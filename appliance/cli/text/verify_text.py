"""What `appliance verify` found, written for people."""

from dataclasses import dataclass
from typing import Any

from appliance.cli.text.status_text import size
from appliance.model.ledger import Ranges
from appliance.store.verification import LedgerSums, Verification


@dataclass
class Queue:
    """What the running API says: envelopes that wait, and confirmed ones that are no rows yet.

    None is unknown; `reason` says why.
    """

    depth: int | None = None
    workers: int | None = None
    not_stored: int | None = None
    reason: str | None = None


def lines(found: Verification, queue: Queue) -> list[str]:
    """Return the lines of `appliance verify`."""
    rows = [("database", found.database), ("schema", str(found.schema))]
    if (integrity := found.integrity) is not None:
        rows.append(("structure", f"{'sound' if integrity.ok else 'WRONG'} ({integrity.check})"))
    if (messages := found.messages) is not None:
        agree = (
            f"the counters of {messages.wrong_counters:,} topics are WRONG"
            if messages.wrong_counters
            else "the counters agree"
        )
        rows.append(
            (
                "messages",
                f"{messages.rows:,} in {messages.topics:,} topics, {size(messages.bytes)}; {agree}",
            )
        )
    if (dead := found.dead_letters) is not None:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in dead.by_reason.items())
        rows.append(("dead letters", f"{dead.total:,}" + (f": {reasons}" if reasons else "")))
    if found.sources is not None:
        rows.append(("envelopes", _envelopes(found.sources)))
    rows.append(("queue", _queue(queue)))
    text = [f"{name:<12}  {text}" for name, text in rows]
    text += _details(found)
    text += [f"note: {note}" for note in found.notes]
    text += [f"WRONG: {problem}" for problem in found.problems]
    return [*text, "all is well" if not found.problems else f"{len(found.problems)} wrong"]


def _envelopes(sources: LedgerSums) -> str:
    missing = f"{sources.missing:,} MISSING" if sources.missing else "none missing"
    processes = "API process" if sources.total == 1 else "API processes"
    text = f"{sources.accounted - sources.not_kept:,} from {sources.total:,} {processes}, {missing}"
    if sources.not_kept:
        text += f"; {sources.not_kept:,} were refused or given up"
    return text


def _queue(queue: Queue) -> str:
    if queue.depth is None:
        return f"unknown: {queue.reason}"
    return f"{queue.depth:,} envelopes wait; workers attached: {queue.workers}"


def _details(found: Verification) -> list[str]:
    lines: list[str] = []
    if found.integrity is not None:
        lines += [f"  {error}" for error in found.integrity.errors]
    if found.messages is not None:
        for wrong in found.messages.wrong:
            lines.append(f"  topic {wrong.topic}: kept {_counter(wrong.kept)}")
            lines.append(f"  {'':<6}{'':<{len(wrong.topic)}}  true {_counter(wrong.true)}")
    if found.sources is not None:
        for gap in found.sources.gaps:
            if gap.missing:
                lines.append(
                    f"  source {gap.source} ({gap.first_at} to {gap.last_at}): "
                    f"missing {_ranges(gap.missing_ranges)}"
                )
    return lines


def _counter(values: dict[str, Any]) -> str:
    counts = f"{values['messages']:,} messages, {values['bytes']:,} bytes"
    return f"{counts}, {values['first_at']} to {values['last_at']}"


def _ranges(ranges: Ranges) -> str:
    return ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in ranges)
