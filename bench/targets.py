"""What must be reached, and whether it was: ratios and limits, each in one place."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.meter import Measurement
from bench.scenarios import BATCHES, PACE, PACED, Memory, singles_name

#: connections -> how many times the naive design
_TIMES_NAIVE = {64: 6.0, 256: 6.0}
#: Lines stored a second, or this share of `.import`: whichever is lower.
_LINES = 300_000
_OF_IMPORT = 0.5
#: Milliseconds, 99th percentiles at PACE.
_ANSWER_MS = 5.0
_COMMIT_MS = 25.0
#: Growth of memory, bytes, from the half to the end of a million messages, that is called flat.
FLAT_BYTES = 8 * 2**20


@dataclass(frozen=True)
class Target:
    """One thing to reach; `wanted` and `measured` are for people."""

    what: str
    wanted: str
    measured: str
    met: bool


def judge(measurements: Sequence[Measurement], memory: Sequence[Memory]) -> list[Target]:
    """Judge what was measured; a target whose scenario did not run is left out."""
    groups: dict[tuple[str, str], list[Measurement]] = {}
    for measured in measurements:
        groups.setdefault((measured.scenario, measured.side), []).append(measured)
    return [*_singles(groups), *_batches(groups), *_paced(groups), *_flat(memory)]


Groups = dict[tuple[str, str], list[Measurement]]


def _singles(groups: Groups) -> Iterable[Target]:
    for connections, wanted in _TIMES_NAIVE.items():
        name = singles_name(connections)
        ours, naive = groups.get((name, "ours")), groups.get((name, "naive"))
        if ours and naive:
            found = ratios(ours, naive)
            yield Target(
                f"{name}: ours / naive",
                f">= {wanted:g}",
                f"{median(found):.1f} ({min(found):.1f} to {max(found):.1f})",
                median(found) >= wanted,
            )


def _batches(groups: Groups) -> Iterable[Target]:
    ours, plain = groups.get((BATCHES, "ours")), groups.get((BATCHES, ".import"))
    if ours and plain:
        rate, share = median(m.rate for m in ours), median(ratios(ours, plain))
        yield Target(
            "batches: lines stored a second",
            f">= {_LINES:,} or {_OF_IMPORT:g} of .import, the lower",
            f"{rate:,.0f}, {share:.2f} of .import",
            rate >= _LINES or share >= _OF_IMPORT,
        )


def _paced(groups: Groups) -> Iterable[Target]:
    for what, limit, values in (
        ("202", _ANSWER_MS, [m.p99 for m in groups.get((PACED, "ours"), [])]),
        (
            "row committed, from when it was due",
            _COMMIT_MS,
            [m.commit["sent_to_committed_p99_ms"] for m in groups.get((PACED, "ours"), [])],
        ),
    ):
        if values:
            p99 = median(values)
            yield Target(
                f"{PACE}/s: {what}, p99", f"<= {limit:g} ms", f"{p99:.1f} ms", p99 <= limit
            )


def _flat(memory: Sequence[Memory]) -> Iterable[Target]:
    for way in dict.fromkeys(sample.way for sample in memory):
        samples = [sample for sample in memory if sample.way == way]
        last = samples[-1]
        half = min(samples, key=lambda sample: abs(sample.messages - last.messages / 2))
        for name in last.bytes:
            if name == "api" or name.startswith("worker"):
                growth = last.bytes[name] - half.bytes[name]
                yield Target(
                    f"{last.messages:,} messages ({way}): growth of {name} over the second half",
                    f"<= {mib(FLAT_BYTES)}",
                    mib(growth),
                    growth <= FLAT_BYTES,
                )


def ratios(ours: Sequence[Measurement], other: Sequence[Measurement]) -> list[float]:
    """Return ours / other for each round: the two stood next to each other in time."""
    return [a.rate / b.rate for a, b in zip(ours, other, strict=True) if b.rate]


def median(values: Iterable[float]) -> float:
    """Return the median, 0 where there is nothing."""
    values = list(values)
    return statistics.median(values) if values else 0.0


def mib(size: float) -> str:
    """Write bytes as MiB."""
    return f"{size / 2**20:.1f} MiB"
