"""The tables that people read, and the JSON for machines."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench import beside, delivering, pages, stores
from bench.beside import Pair
from bench.delivering import Deliveries
from bench.large import Large
from bench.meter import BUSY, Measurement
from bench.pages import Pages
from bench.scenarios import PACED, Memory, Runs
from bench.sides.base import Side
from bench.stores import StoreRound
from bench.tables import table
from bench.targets import Target, judge, median, mib, ratios

#: Pages in the table, the slowest first; the JSON has all of them.
_PAGES_SHOWN = 25


@dataclass
class Report:
    """Everything of one run."""

    machine: dict[str, str]
    sides: dict[str, dict[str, str]] = field(default_factory=dict)
    measurements: list[Measurement] = field(default_factory=list)
    memory: list[Memory] = field(default_factory=list)
    large: Large | None = None
    beside: list[Pair] = field(default_factory=list)
    deliveries: Deliveries | None = None
    pages: Pages | None = None
    stores: list[StoreRound] = field(default_factory=list)
    #: sides that were not measured, and why
    left_out: list[str] = field(default_factory=list)

    def add_side(self, side: Side | Runs) -> None:
        """Remember what a side is and what it promises."""
        self.sides[side.name] = {"what": side.what, "durability": side.durability}

    @property
    def wrong_rows(self) -> int:
        """Rows that are missing, twice or never accepted, over all sides that promise that."""
        pairs = [each for pair in self._pairs() for each in (pair.without, pair.beside)]
        promised = [m for m in self.measurements if m.side.startswith(("ours", "naive"))]
        return sum(m.wrong_rows for m in (*promised, *pairs))

    def targets(self) -> list[Target]:
        """Judge what was measured."""
        return judge(
            self.measurements, self.memory, self.large, self.pages, self.beside, self.deliveries,
            self.stores,
        )  # fmt: skip

    def _pairs(self) -> list[Pair]:
        return [*self.beside, *(self.deliveries.pairs if self.deliveries else [])]

    def text(self) -> str:
        """Return all of it for people."""
        parts = ["Machine and versions", *(f"  {k}: {v}" for k, v in self.machine.items())]
        parts += ["", "Sides", *(f"  {n}: {s['what']}" for n, s in self.sides.items())]
        parts += ["", "Durability", *(f"  {n}: {s['durability']}" for n, s in self.sides.items())]
        parts += [f"Not measured: {why}" for why in self.left_out]
        parts += ["", *self._figures()]
        wrong = self.wrong_rows
        parts.append(f"ROWS WRONG: {wrong}" if wrong else "Rows: every 202 is one row, exactly.")
        return "\n".join(parts)

    def markdown(self) -> str:
        """Return the part of it that the documentation shows."""
        parts = [f"{k}: {v}." for k, v in self.machine.items()]
        parts += [f"Not measured: {why}." for why in self.left_out]
        sides = [[name, side["what"], side["durability"]] for name, side in self.sides.items()]
        parts += ["", *table(["side", "description", "meaning of its 202"], sides)]
        return "\n".join([*parts, "", *self._figures()])

    def _figures(self) -> Iterable[str]:
        yield from self._rates()
        yield from self._latencies()
        yield from self._memory()
        if self.beside:
            yield from _titled(beside.TITLE, beside.HEADS, beside.rows(self.beside))
        if self.deliveries:
            rows = delivering.rows(self.deliveries)
            yield from _titled(delivering.TITLE, delivering.HEADS, rows)
        if self.stores:
            yield from _titled(stores.TITLE, stores.HEADS, stores.rows(self.stores))
        if self.pages:
            shown = pages.rows(self.pages)[:_PAGES_SHOWN]
            title = (
                f"{pages.title(self.pages)}; the {len(shown)} slowest of {len(self.pages.times)}"
            )
            yield from _titled(title, pages.HEADS, shown)
        rows = [[t.what, t.wanted, t.measured, "yes" if t.met else "NO"] for t in self.targets()]
        yield from _titled("Targets", ["", "wanted", "measured", "met"], rows)
        shares = [m.others_share for m in self.measurements]
        shares += [pair.beside.others_share for pair in self._pairs()]
        shares += [self.pages.others_share] if self.pages else []
        if (busy := max(shares, default=0.0)) > BUSY:
            yield f"OTHERS USED UP TO {100 * busy:.0f} % OF THE MACHINE: only its own ratios count."

    def _rates(self) -> Iterable[str]:
        scenarios = dict.fromkeys(m.scenario for m in self.measurements if m.scenario != PACED)
        for title in dict.fromkeys(_series(scenario)[0] for scenario in scenarios):
            steps = [scenario for scenario in scenarios if _series(scenario)[0] == title]
            counted = bool(_series(steps[0])[1])  # steps of a series share one table
            rows = [
                [*([_series(scenario)[1]] if counted else []), *row]
                for scenario in steps
                for row in self._rate_rows(scenario)
            ]
            heads = [
                "side", "stored/s", "spread", "ours / it", "202 p50 ms", "p99 ms", "CPU us: API",
                "broker", "worker", "all", "generator", "others", "wrong rows", "not 202",
            ]  # fmt: skip
            yield from _titled(title, [*(["step"] if counted else []), *heads], rows)

    def _rate_rows(self, scenario: str) -> list[list[str]]:
        group = [m for m in self.measurements if m.scenario == scenario]
        ours = [m for m in group if m.side == "ours"]
        return [
            _rate_row(ours, [m for m in group if m.side == side])
            for side in dict.fromkeys(m.side for m in group)
        ]

    def _latencies(self) -> Iterable[str]:
        group = [m for m in self.measurements if m.commit]
        if not group:
            return
        rows = []
        for side in dict.fromkeys(m.side for m in group):
            of_side = [m for m in group if m.side == side]
            rows.append([
                side,
                f"{median(m.p50 for m in of_side):.2f} / {median(m.p99 for m in of_side):.2f}",
                *(
                    " / ".join(
                        f"{median(m.commit[f'{span}_{label}_ms'] for m in of_side):.2f}"
                        for label in ("p50", "p99")
                    )
                    for span in ("sent_to_committed", "accepted_to_committed", "generator_late")
                ),
                *(_cpu(of_side, role) for role in ("api", "broker", "worker")),
                f"{100 * median(m.others_share for m in of_side):.0f} %",
                str(sum(m.wrong_rows for m in of_side)),
            ])  # fmt: skip
        resolution = group[0].commit["watcher_resolution_ms"]
        yield from _titled(
            f"{PACED}: ms, medians over the rounds; commits seen up to {resolution:.1f} ms late",
            ["side", "due to 202: p50 / p99", "due to committed", "202 to committed",
             "generator late", "CPU us: API", "broker", "worker", "others", "wrong rows"],
            rows,
        )  # fmt: skip

    def _memory(self) -> Iterable[str]:
        if not self.memory:
            return
        names = list(self.memory[0].bytes)
        rows = [
            [m.way, f"{m.messages:,}", *(mib(m.bytes[name]) for name in names)] for m in self.memory
        ]
        yield from _titled("Memory (PSS) of ours on the way", ["sent as", "stored", *names], rows)

    def write(self, folder: Path, stamp: str) -> Path:
        """Write everything as JSON; return where."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{stamp}.json"
        targets = [asdict(target) for target in self.targets()]
        path.write_text(json.dumps({**asdict(self), "targets": targets}, indent=1))
        return path


def _series(scenario: str) -> tuple[str, str]:
    """Return the title of a scenario's table, and its step where it is one of a series."""
    title, colon, step = scenario.rpartition(": ")
    return (title, step) if colon and step.isdigit() else (scenario, "")


def _rate_row(ours: Sequence[Measurement], of_side: Sequence[Measurement]) -> list[str]:
    rates = [m.rate for m in of_side]
    answered = any(m.p50 for m in of_side)  # .import answers nobody
    ratio = median(ratios(ours, of_side)) if ours else 0
    return [
        of_side[0].side,
        f"{median(rates):,.0f}",
        f"{min(rates):,.0f} to {max(rates):,.0f}",
        f"{ratio:.2f}" if ratio else "",
        *(
            f"{median(values):.1f}" if answered else ""
            for values in ([m.p50 for m in of_side], [m.p99 for m in of_side])
        ),
        *(_cpu(of_side, role) for role in ("api", "broker", "worker")),
        _cpu_of_all(of_side),
        f"{100 * median(m.generator_share for m in of_side):.0f} %" if answered else "",
        f"{100 * median(m.others_share for m in of_side):.0f} %",
        str(sum(m.wrong_rows for m in of_side)),
        str(sum(sum(m.failed.values()) for m in of_side)),
    ]


def _cpu(measurements: Sequence[Measurement], role: str) -> str:
    values = [m.cpu_us[role] for m in measurements if role in m.cpu_us]
    return f"{median(values):.1f}" if values else ""


def _cpu_of_all(measurements: Sequence[Measurement]) -> str:
    values = [sum(m.cpu_us.values()) for m in measurements if m.cpu_us]
    return f"{median(values):.1f}" if values else ""


def _titled(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterable[str]:
    yield f"**{title}**"
    yield ""
    yield from table(heads, rows)
    yield ""
