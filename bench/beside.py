"""Intake beside the full-text index that is being filled, and beside open streams.

Each condition is measured in pairs: a round without it, next to a round with it, the order turning
from pair to pair. A ratio is the median of the pairs' own ratios.
"""

import functools
import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from appliance.store.sqlite import paths
from bench.harness import Program, python, wait_until
from bench.listeners import OPEN, VARIABLE, Listening
from bench.meter import Measurement, Meter
from bench.scenarios import Scale
from bench.sides.base import Side
from bench.sides.ours import Appliance

#: Share of the intake that there must be beside the condition.
LEAST: Final = 0.95
_CONNECTIONS: Final = 64
_TOPIC: Final = "bench"
STREAMS: Final = 256
#: Conditions with streams: path of each, and how many are open.
_STREAMS: Final = {
    f"{STREAMS} streams of other topics": ("/v1/topics/quiet/stream", STREAMS),
    f"{STREAMS} streams of this topic, thinned": (f"/v1/topics/{_TOPIC}/stream", STREAMS),
    "4 streams of this topic, whole": (f"/v1/topics/{_TOPIC}/stream?all=1", 4),
}
_INDEXER: Final = "the indexer, never done"
ROLES: Final = ("api", "broker", "worker", "indexer", "readers")

Condition = Callable[[], AbstractContextManager[None]]


@dataclass
class Pair:
    """A round without the condition and one with it, next to each other."""

    condition: str
    without: Measurement
    beside: Measurement

    @property
    def rate(self) -> float:
        """Messages stored a second beside it, as a share of those without it."""
        return self.beside.rate / self.without.rate if self.without.rate else 0.0

    @property
    def cpu(self) -> float:
        """CPU a message of API, broker and worker beside it, in times of that without it."""
        spent = [
            sum(each.cpu_us[role] for role in ROLES[:3]) for each in (self.beside, self.without)
        ]
        return spent[0] / spent[1] if spent[1] else 0.0


def measure(
    meter: Meter, ours: Side, appliance: Appliance, scale: Scale, *, is_quick: bool = False
) -> list[Pair]:
    """Measure all conditions; quickly, the indexer and one with streams: they are all alike."""
    conditions: dict[str, Condition] = {_INDEXER: functools.partial(_indexer, ours, appliance)}
    for name, (path, streams) in list(_STREAMS.items())[: 1 if is_quick else None]:
        conditions[name] = functools.partial(_streams, ours, appliance, path, streams)
    found = []
    for round_ in range(scale.rounds):
        for name, condition in conditions.items():
            found.append(one_pair(meter, ours, scale, round_, name, condition))
    return found


def one_pair(
    meter: Meter, ours: Side, scale: Scale, round_: int, name: str, condition: Condition
) -> Pair:
    """Measure a round without the condition and one with it; which comes first, turns."""
    measured: dict[bool, Measurement] = {}
    for is_beside in (False, True) if round_ % 2 else (True, False):
        load = ours.load(connections=_CONNECTIONS, seconds=scale.seconds, topics=[_TOPIC])
        title = f"intake beside {name}: {'with' if is_beside else 'without'}"
        if is_beside:
            with condition():
                measured[True] = meter.measure(title, ours, load, round_)[0]
        else:
            measured[False] = meter.measure(title, ours, load, round_)[0]
    return Pair(name, measured[False], measured[True])


@contextmanager
def as_part(ours: Side, role: str, program: Program) -> Iterator[None]:
    """Count a program among the side's within the block."""
    ours.programs[role] = [program]
    try:
        yield
    finally:
        del ours.programs[role]


@contextmanager
def _indexer(ours: Side, appliance: Appliance) -> Iterator[None]:
    """Have the index filled within the block; it begins anew each time, so that it has work."""
    assert isinstance(ours.database, Path)
    index = paths.search_index(ours.database)
    for path in (index, *(paths.with_suffix(index, each) for each in paths.BESIDE)):
        path.unlink(missing_ok=True)
    program = Program(
        "indexer", python("bench.indexing", str(ours.database)), appliance.folder, appliance.env
    )
    try:
        wait_until("the index is begun", lambda: paths.size(index) > 0, [program])
        with as_part(ours, "indexer", program):
            yield
        program.check()
    finally:
        program.stop()


@contextmanager
def _streams(ours: Side, appliance: Appliance, path: str, streams: int) -> Iterator[None]:
    """Hold streams open within the block."""
    token = ours.headers["Authorization"].removeprefix("Bearer ")
    wanted = json.dumps(asdict(Listening(ours.port, token, path, streams)))
    readers = Program("readers", python("bench.listeners"), appliance.folder, {VARIABLE: wanted})
    try:
        wait_until("every stream is open", lambda: OPEN in readers.tail(), [readers])
        with as_part(ours, "readers", readers):
            yield
        readers.check()
    finally:
        readers.stop()
        readers.log.unlink()


TITLE: Final = f"single messages, {_CONNECTIONS} connections, beside other work; medians of pairs"
HEADS: Final = (
    "beside", "stored/s without", "with", "share", "spread", "CPU us: API", "broker", "worker",
    "these three, with / without", "indexer", "readers", "wrong rows",
)  # fmt: skip


def rows(pairs: Sequence[Pair]) -> list[list[str]]:
    """Return the cells of the table."""
    return [
        _row(name, [each for each in pairs if each.condition == name]) for name in _names(pairs)
    ]


def _row(name: str, pairs: Sequence[Pair]) -> list[str]:
    median = statistics.median
    shares = [pair.rate for pair in pairs]
    cpu = [f"{median(p.beside.cpu_us.get(role, 0.0) for p in pairs):.1f}" for role in ROLES]
    return [
        name,
        f"{median(pair.without.rate for pair in pairs):,.0f}",
        f"{median(pair.beside.rate for pair in pairs):,.0f}",
        f"{median(shares):.2f}",
        f"{min(shares):.2f} to {max(shares):.2f}",
        *cpu[:3],
        f"{median(pair.cpu for pair in pairs):.2f}",
        *cpu[3:],
        str(sum(pair.without.wrong_rows + pair.beside.wrong_rows for pair in pairs)),
    ]


def shares(pairs: Sequence[Pair]) -> dict[str, list[float]]:
    """Return the shares of each condition's pairs."""
    return {name: [p.rate for p in pairs if p.condition == name] for name in _names(pairs)}


def _names(pairs: Sequence[Pair]) -> list[str]:
    return list(dict.fromkeys(pair.condition for pair in pairs))
