"""Tallies of a process as the numbers that it shows on the board. Pure."""

from collections.abc import Mapping
from typing import Final

from appliance.metrics.board import Numbers
from appliance.model.tallies import DEAD_REASONS, Histogram, PublishTally, StoreTally, StreamTally

#: Each is there from the start: of a number that first shows as 1 nobody sees that it grew.
_DEAD: Final = (*sorted(DEAD_REASONS), "other")


def of_api(
    publishing: PublishTally,
    refused: Mapping[str, int],
    streams: StreamTally,
    oldest_seconds: float | None,
    waiting: int | None = None,
) -> Numbers:
    """Return the numbers of an API process; `refused` counts answers by their problem's type.

    `oldest_seconds` is the age of the oldest envelope in the queue, and `waiting` how many there
    are, where they are known.
    """
    counters = {
        "messages_accepted_total": publishing.accepted,
        "envelopes_published_total": publishing.published,
        "envelopes_confirmed_total": publishing.confirmed,
        "envelopes_nacked_total": publishing.nacked,
    }
    counters |= {f"requests_refused_total:{word}": n for word, n in refused.items()}
    gauges: dict[str, float] = {
        "open_streams": streams.open,
        "queue_oldest_age_seconds": round(oldest_seconds or 0.0, 3),
    }
    if waiting is not None:
        gauges["queue_envelopes"] = waiting
    return Numbers(counters, {"publish_duration_seconds": _values(publishing.took)}, gauges)


def of_worker(storing: StoreTally, holding_seconds: float) -> Numbers:
    """Return the numbers of a worker."""
    counters = {
        "messages_stored_total": storing.stored,
        "messages_duplicate_total": storing.duplicates,
        "messages_quarantined_total": storing.quarantined,
        "transactions_total": storing.transactions,
    }
    counters |= {f"messages_dead_total:{word}": storing.dead[word] for word in _DEAD}
    return Numbers(
        counters,
        {"store_lag_seconds": _values(storing.lag)},
        {"store_holding_seconds": round(holding_seconds, 3)},
    )


def _values(histogram: Histogram) -> list[float]:
    return [*histogram.buckets, round(histogram.seconds, 6)]
