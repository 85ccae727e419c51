"""What is measured: each function is one question, put to its sides in turn."""

import json
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from bench.database import RESOLUTION
from bench.harness import Program, python, wait_at_rest
from bench.load import Load
from bench.meter import Measurement, Meter, Usage, quantile
from bench.sides.base import Side

#: The batches' size that the target speaks of, and how many connections send them.
LINES = 1000
_BATCH_CONNECTIONS = 4
#: The pace that the targets speak of, messages a second.
PACE = 200
BATCHES = f"batches of {LINES:,} lines of 200 bytes, {_BATCH_CONNECTIONS} connections"
SMALL_BATCHES = "batches of 10 lines of 200 bytes, 64 connections"
PACED = f"{PACE} single messages a second"
TOPICS = "single messages, 64 connections, a topic each"
#: Of the appliance on SQLite beside the appliance on PostgreSQL.
ON_ENGINES = "on either store: "
HEADS = "single messages, 64 connections, heads that differ"
WAITS = "single messages, 64 connections, 202 beside 201"
#: Ours as it is compared with itself: all connections send to one topic; each 201 means a row.
ONE_TOPIC = "ours, one topic"
WAITING = "ours, Prefer: wait"
KEYED = "ours, an Idempotency-Key each"
VARIED = "ours, bodies of 2,000 lengths"
#: Connections of a paced load: more than are ever busy at once.
_PACED_CONNECTIONS = 32
#: Seconds after which the worker no longer hurries for those who waited for rows.
_FORGOTTEN_SECONDS = 6.0
#: Shares of the load at which memory is noted.
_MARKS = (0.1, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Scale:
    """How much is sent. Times in seconds."""

    rounds: int
    seconds: float
    warm_up: float
    lines: int
    paced_seconds: float
    #: messages of the memory scenario, each way
    memory: int
    #: after which the memory scenario goes on with what it has
    memory_limit: float
    #: rows of the large database
    large_rows: int


#: Many short rounds rather than few long ones: what else the machine does then meets all sides.
FULL = Scale(5, 3.0, 1.5, 300_000, 5.0, 1_000_000, 120.0, 10_000_000)
QUICK = Scale(1, 1.0, 0.3, 20_000, 2.0, 20_000, 20.0, 100_000)


@dataclass
class Memory:
    """Bytes that processes use after so many messages."""

    way: str
    messages: int
    bytes: dict[str, int]


def singles_name(connections: int) -> str:
    """Return the name of `singles` with so many connections."""
    return f"single messages, {connections} connections"


class Runs(Protocol):
    """Something that nobody asks and that answers nobody: it runs, and has a rate."""

    name: str
    what: str
    durability: str
    count: int
    #: that serve it, beside what it starts itself
    programs: Sequence[Program]

    def run(self) -> float:
        """Run once; return what was done a second."""


def alone(meter: Meter, name: str, part: Runs) -> Callable[[int], Measurement]:
    """Return the turn of something that runs alone."""

    def turn(round_: int) -> Measurement:
        wait_at_rest(part.programs)
        cpu, begun = _cpu_seconds(part), Usage.now()
        rate = part.run()
        # What it starts is a child of ours, and counted as such.
        others = meter.others(begun, _cpu_seconds(part) - cpu)
        meter.say(f"  {name} | {part.name}: {rate:,.0f}/s")
        return Measurement(
            name, part.name, round_, rate, part.count, part.count, others_share=others
        )

    return turn


def _cpu_seconds(part: Runs) -> float:
    return sum(program.cpu_seconds() for program in part.programs)


def warm_up(meter: Meter, sides: Sequence[Side], scale: Scale) -> None:
    """Let every side open its connections and import what it imports late."""
    for side in sides:
        meter.measure("warm-up", side, side.load(seconds=scale.warm_up))


def singles(
    meter: Meter, sides: Sequence[Side], scale: Scale, connections: int, parts: Sequence[Runs] = ()
) -> list[Measurement]:
    """Send single messages, every connection as fast as it is answered, all to one topic."""
    name = singles_name(connections)

    def turn(side: Side) -> Callable[[int], Measurement]:
        return lambda round_: meter.measure(
            name, side, side.load(connections=connections, seconds=scale.seconds), round_
        )[0]

    turns = [*(turn(side) for side in sides), *(alone(meter, name, part) for part in parts)]
    return meter.in_turn(scale.rounds, turns)


def many_topics(meter: Meter, sides: Sequence[Side], scale: Scale) -> list[Measurement]:
    """Send single messages, each connection to a topic of its own; the first side's to one, too."""
    topics = [f"t{n}" for n in range(64)]

    def turn(side: Side, topics: Sequence[str]) -> Callable[[int], Measurement]:
        return lambda round_: meter.measure(
            TOPICS, side, side.load(topics=topics, seconds=scale.seconds), round_
        )[0]

    one = turn(replace(sides[0], name=ONE_TOPIC), topics[:1])
    return meter.in_turn(scale.rounds, [turn(sides[0], topics), one, turn(sides[1], topics)])


def waits(meter: Meter, ours: Side, scale: Scale) -> list[Measurement]:
    """Send single messages, whose answers wait for the broker's disk, or for the row."""

    def plain(round_: int) -> Measurement:
        if scale.rounds > 1:
            time.sleep(_FORGOTTEN_SECONDS)
        return meter.measure(WAITS, ours, ours.load(seconds=scale.seconds), round_)[0]

    def waits(round_: int) -> Measurement:
        side = waiting(ours)
        return meter.measure(WAITS, side, side.load(seconds=scale.seconds), round_)[0]

    return meter.in_turn(scale.rounds, [plain, waits])


def heads(meter: Meter, ours: Side, scale: Scale) -> list[Measurement]:
    """Send single messages, of which each has its own key, or a length that few others have."""
    ways: dict[str, dict[str, float]] = {
        ONE_TOPIC: {"size": 1100},
        VARIED: {"size": 2100, "lengths": 2000},
        KEYED: {"size": 1100, "keyed": True},
    }

    def turn(name: str) -> Callable[[int], Measurement]:
        side = replace(ours, name=name)
        return lambda round_: meter.measure(
            HEADS, side, side.load(seconds=scale.seconds, **ways[name]), round_
        )[0]

    return meter.in_turn(scale.rounds, [turn(name) for name in ways])


def waiting(ours: Side) -> Side:
    """Return our side as it answers those who wait for the row."""
    return replace(ours, name=WAITING, headers={**ours.headers, "Prefer": "wait=30"})


def batches(meter: Meter, ours: Side, parts: Sequence[Runs], scale: Scale) -> list[Measurement]:
    """Send batches of lines over HTTP; let others put the same lines into the same schema."""

    def our_turn(round_: int) -> Measurement:
        load = ours.load(lines=LINES, connections=_BATCH_CONNECTIONS, count=scale.lines // LINES)
        return meter.measure(BATCHES, ours, load, round_)[0]

    turns = [our_turn, *(alone(meter, BATCHES, part) for part in parts)]
    return meter.in_turn(scale.rounds, turns)


def small_batches(meter: Meter, ours: Side, scale: Scale) -> list[Measurement]:
    """Send batches as many small senders do: a few lines each, at once."""

    def turn(round_: int) -> Measurement:
        load = ours.load(lines=10, connections=64, seconds=scale.seconds)
        return meter.measure(SMALL_BATCHES, ours, load, round_)[0]

    return meter.in_turn(scale.rounds, [turn])


def on_engines(meter: Meter, sides: Sequence[Side], scale: Scale) -> list[Measurement]:
    """Send single messages, and batches of lines, to the appliance on each of its stores."""
    loads: dict[str, dict[str, float]] = {
        singles_name(64): {"connections": 64, "seconds": scale.seconds},
        BATCHES: {
            "lines": LINES, "connections": _BATCH_CONNECTIONS, "count": scale.lines // LINES,
        },
    }  # fmt: skip

    def turn(name: str, side: Side) -> Callable[[int], Measurement]:
        return lambda round_: meter.measure(
            f"{ON_ENGINES}{name}", side, side.load(**loads[name]), round_
        )[0]

    return meter.in_turn(scale.rounds, [turn(name, side) for name in loads for side in sides])


def paced(meter: Meter, sides: Sequence[Side], scale: Scale) -> list[Measurement]:
    """Send single messages at a fixed pace, whatever the answers do.

    Latency counts from when a message was due. The commit is what a process sees that watches the
    database (bench.database); no side tells it itself.
    """

    def turn(side: Side) -> Callable[[int], Measurement]:
        load = side.load(rate=PACE, seconds=scale.paced_seconds, connections=_PACED_CONNECTIONS)
        return lambda round_: _paced(meter, side, load, round_)

    return meter.in_turn(scale.rounds, [turn(side) for side in sides])


def _paced(meter: Meter, side: Side, load: Load, round_: int) -> Measurement:
    watcher = subprocess.Popen(
        python("bench.database", str(side.database)), stdout=subprocess.PIPE, text=True
    )
    assert watcher.stdout is not None
    try:
        watcher.stdout.readline()  # it watches now
        measured, outcome = meter.measure(PACED, side, load, round_)
    finally:
        watcher.terminate()
        printed = watcher.communicate()[0]
    seen = dict(json.loads(printed))
    known = [(seen[n], due, answered) for n, due, answered in outcome.accepted if n in seen]
    spans = {
        "sent_to_committed": sorted(committed - due for committed, due, _ in known),
        "accepted_to_committed": sorted(committed - answered for committed, _, answered in known),
        "generator_late": outcome.lateness,
    }
    measured.commit = {
        f"{span}_{label}_ms": 1000 * quantile(values, share)
        for span, values in spans.items()
        for label, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
    } | {"watcher_resolution_ms": 1000 * RESOLUTION}
    return measured


def memory(meter: Meter, ours: Side, scale: Scale) -> tuple[list[Measurement], list[Memory]]:
    """Send a million single messages and a million lines; note memory on the way."""
    found, noted = [], []
    for way, load in (
        ("single", ours.load(count=scale.memory, seconds=scale.memory_limit)),
        ("batch", ours.load(lines=LINES, connections=_BATCH_CONNECTIONS,
                            count=scale.memory // LINES, seconds=scale.memory_limit)),
    ):  # fmt: skip
        samples = _Samples(way, ours, scale.memory)
        name = f"memory, {scale.memory:,} messages ({way})"
        measured, _ = meter.measure(name, ours, load, during=samples.look)
        samples.note(measured.stored)
        found.append(measured)
        noted.extend(samples.noted)
    return found, noted


class _Samples:
    """Notes memory at the marks, and once before."""

    def __init__(self, way: str, side: Side, total: int) -> None:
        self._way = way
        self._programs: list[Program] = [p for ps in side.programs.values() for p in ps]
        self._marks = [int(total * mark) for mark in _MARKS[:-1]]
        self.noted: list[Memory] = []
        self.note(0)

    def look(self, stored: int) -> None:
        if self._marks and stored >= self._marks[0]:
            self._marks = [mark for mark in self._marks if mark > stored]
            self.note(stored)

    def note(self, stored: int) -> None:
        sizes = {program.name: program.memory() for program in self._programs}
        self.noted.append(Memory(self._way, stored, sizes))
