"""What must be reached, and whether it was: ratios and limits, each in one place."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.beside import LEAST, Pair, shares
from bench.delivering import LEAST_RATE, LEAST_SHARE, Deliveries
from bench.large import READERS, Large
from bench.meter import Measurement
from bench.pages import LIMIT_MS, Pages
from bench.scenarios import (
    BATCHES,
    ON_ENGINES,
    ONE_TOPIC,
    PACE,
    PACED,
    TOPICS,
    WAITING,
    WAITS,
    Memory,
    singles_name,
)
from bench.sides.go_peer import GO
from bench.sides.ours import OURS, OURS_ON_POSTGRES
from bench.stores import BARE, SQLITE, StoreRound
from bench.stores import shares as store_shares

#: connections -> how many times the naive design
_TIMES_NAIVE = {64: 10.0, 256: 12.0}
#: Shares of what others do, at 64 connections.
_OF_SINGLES = {"bare uvicorn": 0.75, GO: 0.9}
#: Shares of what others do with the same lines.
_OF_OTHERS = {"SQLite alone": 0.9, "sqlite-utils insert": 1.5}
#: At PACE, times one Go program's: CPU of all processes a message, and to the 201, median.
_CPU_OF_GO = 1.8
_ROW_OF_GO = 1.5
#: Milliseconds at PACE, median and 99th percentile: to the 202, and from there to the commit.
_ANSWER_MS = (1.5, 5.0)
_COMMIT_MS = (3.0, 15.0)
#: A topic for each of 64 connections: share of the rate with one topic.
_OF_ONE_TOPIC = 0.85
#: `Prefer: wait`: CPU of all processes a message, times that of a 202; and at PACE, milliseconds
#: from the commit to the 201, median.
_WAIT_CPU = 1.15
_TOLD_MS = 0.6
#: Ten million rows: shares of what is without them or without readers, and milliseconds of a page.
_LAST_OF_FIRST = 0.9
_BESIDE_READERS = 0.8
_PAGE_MS = 10.0
#: From end to end: messages a second on PostgreSQL, as a share of those on SQLite.
_OF_SQLITE = {singles_name(64): 0.8, BATCHES: 0.35}
#: The store alone on PostgreSQL: CPU of a message on SQLite, and of one in a bare pipeline, as
#: shares of its own.
_STORE_OF_SQLITE = {"singles,": 0.65, "batches": 0.33}
_STORE_OF_BARE = 0.8
#: Growth of memory, bytes, from the half to the end of a million messages, that is called flat.
FLAT_BYTES = 8 * 2**20


@dataclass(frozen=True)
class Target:
    """One thing to reach; `wanted` and `measured` are for people."""

    what: str
    wanted: str
    measured: str
    met: bool


def judge(
    measurements: Sequence[Measurement],
    memory: Sequence[Memory],
    large: Large | None = None,
    pages: Pages | None = None,
    pairs: Sequence[Pair] = (),
    deliveries: Deliveries | None = None,
    stores: Sequence[StoreRound] = (),
) -> list[Target]:
    """Judge what was measured; a target whose scenario did not run is left out."""
    groups: dict[tuple[str, str], list[Measurement]] = {}
    for measured in measurements:
        groups.setdefault((measured.scenario, measured.side), []).append(measured)
    found = [*_singles(groups), *_topics(groups), *_waits(groups), *_batches(groups)]
    found += [*_paced(groups), *_paced_beside_go(groups), *_flat(memory)]
    found += _large(large) if large else []
    found += _beside(pairs)
    found += _deliveries(deliveries) if deliveries else []
    found += [*_engines(groups), *_stores(stores)]
    return [*found, *(_pages(pages) if pages else [])]


Groups = dict[tuple[str, str], list[Measurement]]


def _ratio(
    what: str, ours: list[Measurement] | None, other: list[Measurement] | None, wanted: float
) -> Iterable[Target]:
    if ours and other:
        found = ratios(ours, other)
        text = f"{median(found):.2f} ({min(found):.2f} to {max(found):.2f})"
        yield Target(what, f">= {wanted:g}", text, median(found) >= wanted)


def _singles(groups: Groups) -> Iterable[Target]:
    for connections, wanted in _TIMES_NAIVE.items():
        name = singles_name(connections)
        ours = groups.get((name, "ours"))
        yield from _ratio(f"{name}: ours / naive", ours, groups.get((name, "naive")), wanted)
        if connections == 64:
            for other, share in _OF_SINGLES.items():
                yield from _ratio(f"{name}: ours / {other}", ours, groups.get((name, other)), share)
        elif ours:
            refused = sum(sum(m.failed.values()) for m in ours)
            yield Target(f"{name}: not 202", "0", f"{refused}", refused == 0)


def _topics(groups: Groups) -> Iterable[Target]:
    ours, one = groups.get((TOPICS, "ours")), groups.get((TOPICS, ONE_TOPIC))
    yield from _ratio("64 topics / one topic", ours, one, _OF_ONE_TOPIC)


def _at_most(what: str, found: list[float], wanted: float) -> Iterable[Target]:
    text = f"{median(found):.2f} ({min(found):.2f} to {max(found):.2f})"
    yield Target(what, f"<= {wanted:g}", text, median(found) <= wanted)


def _cpu(measured: Measurement) -> float:
    return sum(measured.cpu_us.values())


def _waits(groups: Groups) -> Iterable[Target]:
    plain, waiting = groups.get((WAITS, "ours")), groups.get((WAITS, WAITING))
    if plain and waiting:
        found = [_cpu(b) / _cpu(a) for a, b in zip(plain, waiting, strict=True)]
        yield from _at_most("64 connections: CPU a message, 201 / 202", found, _WAIT_CPU)
    if told := groups.get((PACED, WAITING)):
        late = -median(m.commit["accepted_to_committed_p50_ms"] for m in told)
        what, wanted = f"{PACE}/s: commit seen to 201, p50", f"<= {_TOLD_MS:g} ms"
        yield Target(what, wanted, f"{late:.2f} ms", late <= _TOLD_MS)


def _batches(groups: Groups) -> Iterable[Target]:
    ours = groups.get((BATCHES, "ours"))
    for name, wanted in _OF_OTHERS.items():
        yield from _ratio(f"batches: ours / {name}", ours, groups.get((BATCHES, name)), wanted)


def _paced(groups: Groups) -> Iterable[Target]:
    ours = groups.get((PACED, "ours"), [])
    for what, (p50, p99), values in (
        ("202", _ANSWER_MS, [(m.p50, m.p99) for m in ours]),
        (
            "202 to committed",
            _COMMIT_MS,
            [
                tuple(m.commit[f"accepted_to_committed_{label}_ms"] for label in ("p50", "p99"))
                for m in ours
            ],
        ),
    ):
        if values:
            middle, most = (median(each) for each in zip(*values, strict=True))
            yield Target(
                f"{PACE}/s: {what}, p50 / p99",
                f"<= {p50:g} / {p99:g} ms",
                f"{middle:.2f} / {most:.2f} ms",
                middle <= p50 and most <= p99,
            )


def _paced_beside_go(groups: Groups) -> Iterable[Target]:
    ours, waiting, go = (groups.get((PACED, name)) for name in ("ours", WAITING, GO))
    if ours and waiting and go:
        cpu = [_cpu(a) / _cpu(b) for a, b in zip(ours, go, strict=True)]
        yield from _at_most(f"{PACE}/s: CPU a message, ours / {GO}", cpu, _CPU_OF_GO)
        times = [a.p50 / b.p50 for a, b in zip(waiting, go, strict=True)]
        yield from _at_most(f"{PACE}/s: 201 p50, {WAITING} / {GO}", times, _ROW_OF_GO)


def _large(large: Large) -> Iterable[Target]:
    name = f"{large.rows:,} rows"
    share = large.last / large.first
    yield Target(
        f"{name}: storing the last tenth / the first",
        f">= {_LAST_OF_FIRST:g}",
        f"{share:.2f} ({large.last:,.0f}/s, {large.first:,.0f}/s)",
        share >= _LAST_OF_FIRST,
    )
    yield Target(
        f"{name}: newest 100 of a topic, p50 / p99",
        f"p99 <= {_PAGE_MS:g} ms",
        f"{large.page_p50:.1f} / {large.page_p99:.1f} ms"
        f" (p99 {large.busy_page_p99:.1f} ms beside the intake)",
        large.page_p99 <= _PAGE_MS,
    )
    share = large.beside_readers / large.alone
    yield Target(
        f"{name}: intake beside {READERS} readers / alone",
        f">= {_BESIDE_READERS:g}",
        f"{share:.2f} ({large.beside_readers:,.0f}/s, {large.alone:,.0f}/s)",
        share >= _BESIDE_READERS,
    )


def _beside(pairs: Sequence[Pair]) -> Iterable[Target]:
    for name, found in shares(pairs).items():
        yield Target(
            f"intake beside {name} / without",
            f">= {LEAST:g}",
            f"{median(found):.2f} ({min(found):.2f} to {max(found):.2f})",
            median(found) >= LEAST,
        )


def _deliveries(found: Deliveries) -> Iterable[Target]:
    for what, wanted, form, values in (
        ("messages delivered a second beside the intake", LEAST_RATE, ",.0f", found.beside),
        ("intake beside these deliveries / without", LEAST_SHARE, ".2f", found.shares),
    ):
        middle, spread = median(values), f"{min(values):{form}} to {max(values):{form}}"
        yield Target(what, f">= {wanted:,}", f"{middle:{form}} ({spread})", middle >= wanted)


def _pages(pages: Pages) -> Iterable[Target]:
    name = f"{len(pages.times)} pages and calls at {pages.size.rows:,} rows"
    for what, slowest, value in (
        ("p95 of the slowest", pages.slowest, pages.slowest.wall_p95),
        ("p95 of its CPU, the dearest", pages.dearest, pages.dearest.cpu_p95),
    ):
        yield Target(
            f"{name}: {what}",
            f"< {LIMIT_MS:g} ms",
            f"{value:.1f} ms ({slowest.address})",
            value < LIMIT_MS,
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


def _engines(groups: Groups) -> Iterable[Target]:
    for name, wanted in _OF_SQLITE.items():
        scenario = f"{ON_ENGINES}{name}"
        ours, other = (groups.get((scenario, side)) for side in (OURS_ON_POSTGRES, OURS))
        yield from _ratio(f"{name}: {OURS_ON_POSTGRES} / {OURS}", ours, other, wanted)


def _stores(found: Sequence[StoreRound]) -> Iterable[Target]:
    for kind, share in store_shares(found, SQLITE):
        wanted = _STORE_OF_SQLITE[kind.partition(" ")[0]]
        yield Target(
            f"the store alone, {kind}: CPU of SQLite's message / of PostgreSQL's",
            f">= {wanted}", f"{share:.2f}", share >= wanted,
        )  # fmt: skip
    for kind, share in store_shares(found, BARE):
        yield Target(
            f"the store alone, {kind}: CPU of a bare pipeline's message / of PostgreSQL's",
            f">= {_STORE_OF_BARE}", f"{share:.2f}", share >= _STORE_OF_BARE,
        )  # fmt: skip
