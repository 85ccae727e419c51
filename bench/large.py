"""Ten million rows: storing them, reading them, and taking in while others read."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass

from bench.harness import BenchError, python
from bench.meter import Measurement, Meter, quantile
from bench.readers import Reading
from bench.scenarios import LINES, Scale
from bench.sides.base import Side

#: Topics that the rows are spread over, in turn.
_TOPICS = [f"large{n}" for n in range(4)]
#: Readers beside the intake, and seconds between a reader's pages: 80 pages a second in all.
READERS = 8
PAUSE = 0.1
FILL = "storing, a tenth after another"
INTAKE = "single messages, 64 connections, beside readers"
_SECONDS = 4.0


@dataclass
class Large:
    """What came of it. Rates a second, times in milliseconds."""

    rows: int
    first: float
    last: float
    page_p50: float
    page_p99: float
    busy_page_p99: float
    alone: float
    beside_readers: float


def large(meter: Meter, ours: Side, scale: Scale) -> tuple[list[Measurement], Large]:
    """Fill a database, then read from it, idle and at full speed."""
    tenth = scale.large_rows // 10
    found = []
    for number in range(10):
        load = ours.load(
            lines=LINES, connections=4, count=tenth // LINES, topics=_TOPICS, seconds=600
        )
        found.append(meter.measure(f"{FILL}: {number + 1}", ours, load, number)[0])
    pages = _reader(ours, 1, 0.0, walk=False)()
    rates: dict[bool, list[float]] = {False: [], True: []}
    busy: list[float] = []
    for round_ in range(scale.rounds):
        for read in (False, True):
            readers = _reader(ours, READERS, PAUSE, walk=True) if read else None
            load = ours.load(connections=64, seconds=_SECONDS)
            name = f"{INTAKE}: {READERS if read else 0}"
            measured, _ = meter.measure(name, ours, load, round_)
            found.append(measured)
            rates[read].append(measured.rate)
            if readers:
                busy += readers()

    middle = scale.rounds // 2
    return found, Large(
        rows=scale.large_rows,
        first=found[0].rate,
        last=found[9].rate,
        page_p50=1000 * quantile(pages, 0.5),
        page_p99=1000 * quantile(pages, 0.99),
        busy_page_p99=1000 * quantile(sorted(busy), 0.99),
        alone=sorted(rates[False])[middle],
        beside_readers=sorted(rates[True])[middle],
    )


def _reader(side: Side, readers: int, pause: float, *, walk: bool) -> Callable[[], list[float]]:
    """Start readers; what is returned waits for their end and returns what pages took, sorted."""
    token = side.headers["Authorization"].removeprefix("Bearer ")
    reading = Reading(side.port, token, _TOPICS, readers, _SECONDS, pause, walk)
    process = subprocess.Popen(
        python("bench.readers"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(asdict(reading)))
    process.stdin.close()

    def end() -> list[float]:
        assert process.stdout is not None
        text = process.stdout.read()
        if process.wait():
            raise BenchError("the readers failed")
        took: list[float] = json.loads(text)
        return took

    return end
