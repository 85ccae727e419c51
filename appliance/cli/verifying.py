"""Verifies the store beside a running API: what it confirmed is stored, or on its way there."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Final

from appliance.broker.publish import last_words
from appliance.cli.text.verify_text import Queue
from appliance.config import Config
from appliance.errors import ApplianceError
from appliance.model.ledger import LedgerEntry
from appliance.store.base import StepTimer, Store
from appliance.store.verification import LedgerSums, Verification

#: Seconds without progress after which confirmed envelopes no longer count as on their way to a
#: row: longer than the broker needs to count its queue right after a crash.
_STILL: Final = 5.0
#: Seconds between two looks at the envelopes on their way.
_LOOK: Final = 0.25
#: Seconds after which the wait ends, though there is progress.
_PATIENCE: Final = 60.0

#: Returns the broker's state as the API shows it. Raises ApplianceError.
Ask = Callable[[], dict[str, Any]]


def answer(verification: Verification, queue: Queue, seconds: float) -> dict[str, Any]:
    """Return the outcome as JSON has it."""
    return {
        "ok": not verification.problems,
        **asdict(verification),
        "queue": asdict(queue),
        "seconds": round(seconds, 2),
    }


def verify_running(config: Config, store: Store, ask: Ask, show: StepTimer) -> dict[str, Any]:
    """Return the outcome for a running appliance, index entries not compared with their rows."""
    began = time.monotonic()
    verification = store.verify(quick=True, alone=False, progress=show)
    queue = look_at_queue(config, store, verification, ask, show)
    judge_unknown(verification)
    return answer(verification, queue, time.monotonic() - began)


def look_at_queue(
    config: Config, store: Store, verification: Verification, ask: Ask, show: StepTimer
) -> Queue:
    """Ask the running API, and wait until the envelopes that it confirmed are in the store."""
    try:
        broker = ask()
        said = [each["numbers"] for each in broker.get("shards") or [broker]]
        entries = [LedgerEntry(**each) for each in said if each is not None]
        if verification.sources is not None and entries:
            for entry in entries:
                _excuse_running(verification.sources, entry.source)
            broker, not_stored = _wait(ask, store, entries, show)
            _judge(verification, broker, not_stored)
        else:
            not_stored = None
    except ApplianceError as error:
        return Queue(reason=str(error), not_stored=_left(config, store, verification))
    reason = None if broker["depth"] is not None else broker["reason"] or "not looked at yet"
    return Queue(broker["depth"], broker["consumers"], not_stored, reason)


def _left(config: Config, store: Store, verification: Verification) -> int | None:
    """Return how many envelopes are no rows, of those that API processes noted as confirmed."""
    if verification.sources is None:
        return None
    count = sum(store.unaccounted(entry) for entry in last_words.recorded(config.data))
    if count:
        verification.notes.append(
            f"confirmed envelopes that are not stored: {count:,}; while the API is away it is not "
            "known whether they wait in the queue"
        )
    return count


def _wait(
    ask: Ask, store: Store, entries: Sequence[LedgerEntry], show: StepTimer
) -> tuple[dict[str, Any], int]:
    """Return the API's last view of the broker, and how many confirmed envelopes are no rows.

    Returns when there are none, or nothing has moved for a while.
    """
    end = time.monotonic() + _PATIENCE
    state, since = (-1, -1), time.monotonic()
    while True:
        not_stored = sum(map(store.unaccounted, entries))
        broker = ask()
        now = time.monotonic()
        if state != (not_stored, broker["depth"]):
            state, since = (not_stored, broker["depth"]), now
        if not not_stored or now - since > _STILL or now > end:
            return broker, not_stored
        show(f"{not_stored:,} envelopes are on their way to the store", now - since)
        time.sleep(_LOOK)


def _judge(verification: Verification, broker: dict[str, Any], not_stored: int) -> None:
    """Judge whether confirmed envelopes that are no rows can still become rows."""
    depth = broker["depth"]
    if not not_stored:
        return
    if depth is None or not_stored <= depth:
        verification.notes.append(f"confirmed envelopes that wait to be stored: {not_stored:,}")
    elif broker["consumers"]:
        verification.problems.append(
            f"confirmed envelopes that are not stored: {not_stored:,}, while {depth:,} wait in the "
            "queue; a worker holds the others and can't store them, or they are lost"
        )
    else:
        verification.problems.append(
            f"envelopes missing: {not_stored - depth:,}; they were confirmed, are not stored, and "
            "neither the queue nor a worker has them"
        )


def _excuse_running(sources: LedgerSums, running: str) -> None:
    """Take the envelopes that a running API has not settled as under way, not as unknown."""
    for gap in sources.gaps:
        if gap.source == running:
            sources.unknown -= gap.unknown
            gap.unknown, gap.unknown_ranges = 0, []
    sources.gaps = [gap for gap in sources.gaps if gap.missing or gap.unknown]


def judge_unknown(verification: Verification) -> None:
    """Add a note about the envelopes of which it is not known whether they were confirmed."""
    if verification.sources is not None and verification.sources.unknown:
        verification.notes.append(
            "envelopes that have not come, and of which it is not known whether they were "
            f"confirmed: {verification.sources.unknown:,}; their API process was killed before it "
            "could say, or this is a copy"
        )
