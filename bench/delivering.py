"""Deliveries to one endpoint: how many a second, alone and beside the intake.

Alone: messages that are stored already go to an endpoint without a limit. Beside: pairs of rounds,
one with and one without an endpoint that may take a little more than the target asks for; what is
looked at is how many it gets, and what share of its speed the intake keeps.
"""

import json
import statistics
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench import receiver
from bench.beside import Pair, as_part, one_pair
from bench.database import Rows
from bench.harness import BenchError, Program, free_port, listening, python, wait_until
from bench.meter import Meter
from bench.scenarios import LINES, Scale
from bench.sides.base import Side
from bench.sides.ours import Appliance

#: Messages delivered a second beside an intake that keeps such a share of its speed.
LEAST_RATE: Final = 2000
LEAST_SHARE: Final = 0.8
#: What the endpoint may take beside the intake: a limit of just the target would be missed by
#: whatever the machine does for a moment.
_LIMIT: Final = 2200
#: Requests at once.
_CONCURRENCY: Final = 16
#: Seconds until an endpoint that was made is noticed, or one that is gone.
_NOTICED: Final = 1.0
#: Seconds for messages that are stored to be delivered.
_PATIENCE: Final = 120.0
_ALONE_TOPIC: Final = "deliveries"
_BESIDE: Final = f"deliveries, {_LIMIT:,}/s at most"


@dataclass
class Deliveries:
    """What was delivered a second, and what it cost."""

    #: messages of each round that was alone
    count: int
    alone: list[float] = field(default_factory=list)
    #: microseconds of CPU of the process that delivers, a message
    cpu_us: list[float] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)

    @property
    def shares(self) -> list[float]:
        """What the intake keeps of its speed, pair by pair."""
        return [pair.rate for pair in self.pairs]


class _Endpoint:
    """The process that delivers, a receiver, and an endpoint that can be made and taken away."""

    def __init__(self, appliance: Appliance) -> None:
        self._appliance = appliance
        self.port = free_port()
        self.receiver = Program(
            "receiver", python("bench.receiver", str(self.port)), appliance.folder
        )
        wait_until("the receiver listens", lambda: listening(self.port), [self.receiver])
        self.program = appliance.start_program("deliver", "deliver")

    @contextmanager
    def open(self, topic: str, begin: object, **settings: object) -> Iterator[None]:
        """Deliver the messages of a topic within the block."""
        receiver.ask(self.port, reset=True)
        wanted = {
            "name": "bench", "url": f"http://127.0.0.1:{self.port}/", "topics": [topic],
            "settings": {"concurrency": _CONCURRENCY, **settings}, "from": begin,
        }  # fmt: skip
        self._call("POST", "/v1/endpoints", wanted)
        try:
            yield
            self.program.check()
        finally:
            self._call("DELETE", "/v1/endpoints/bench", None)
            time.sleep(_NOTICED)

    def _call(self, method: str, path: str, wanted: object) -> None:
        data = None if wanted is None else json.dumps(wanted).encode()
        headers = {"Authorization": f"Bearer {self._appliance.env['APPLIANCE_TOKEN']}"}
        if data:
            headers["Content-Type"] = "application/json"
        address = f"{self._appliance.config.api_url}{path}"
        asked = urllib.request.Request(address, data, headers, method=method)
        with urllib.request.urlopen(asked, timeout=30) as answer:
            answer.read()

    def stop(self) -> None:
        self.program.stop()
        self.receiver.stop()


def measure(meter: Meter, ours: Side, appliance: Appliance, scale: Scale) -> Deliveries:
    """Measure both, round after round."""
    found = Deliveries(max(1, scale.lines // 3 // LINES) * LINES)
    endpoint = _Endpoint(appliance)
    try:
        for round_ in range(scale.rounds):
            rate, cpu = _alone(meter, ours, endpoint, found.count, round_)
            found.alone.append(rate)
            found.cpu_us.append(cpu)
            found.pairs.append(_beside(meter, ours, endpoint, scale, round_, found.beside))
    finally:
        endpoint.stop()
    return found


def _alone(
    meter: Meter, ours: Side, endpoint: _Endpoint, count: int, round_: int
) -> tuple[float, float]:
    """Return what is delivered a second while nothing else happens, and its CPU a message."""
    assert isinstance(ours.database, Path)
    rows = Rows(ours.database)
    begin = rows.last() + 1
    rows.close()
    load = ours.load(lines=LINES, connections=4, count=count // LINES, topics=[_ALONE_TOPIC])
    meter.measure("deliveries: stored before", ours, load, round_)
    before, deadline = endpoint.program.cpu_seconds(), time.monotonic() + _PATIENCE
    with endpoint.open(_ALONE_TOPIC, begin):
        while (got := receiver.ask(endpoint.port)).messages < count:
            endpoint.program.check()
            if time.monotonic() > deadline:
                raise BenchError(f"{got.messages} of {count} messages were delivered")
            time.sleep(0.1)
        spent = endpoint.program.cpu_seconds() - before
    meter.say(f"  deliveries alone: {got.rate:,.0f}/s")
    return got.rate, 1e6 * spent / count


def _beside(
    meter: Meter,
    ours: Side,
    endpoint: _Endpoint,
    scale: Scale,
    round_: int,
    rates: list[float],
) -> Pair:
    """Return a pair of rounds of intake; what was delivered a second is added to `rates`."""

    @contextmanager
    def delivering() -> Iterator[None]:
        with (
            endpoint.open("bench", "now", rate=f"{_LIMIT}/s"),
            as_part(ours, "deliver", endpoint.program),
        ):
            time.sleep(_NOTICED)
            yield
            rates.append(receiver.ask(endpoint.port).rate)
        meter.say(f"  delivered beside the intake: {rates[-1]:,.0f}/s")

    return one_pair(meter, ours, scale, round_, _BESIDE, delivering)


TITLE: Final = "deliveries to one endpoint; medians over the rounds"
HEADS: Final = (
    "", "delivered/s", "spread", "CPU us of deliver, a message", "intake, stored/s without", "with",
    "share", "spread",
)  # fmt: skip


def rows(found: Deliveries) -> list[list[str]]:
    """Return the cells of the table."""
    median, shares = statistics.median, found.shares
    # What the process spent is measured for each message that was taken in.
    cpu = [
        pair.beside.cpu_us["deliver"] * pair.beside.rate / rate
        for pair, rate in zip(found.pairs, found.beside, strict=True)
        if rate
    ]
    return [
        [
            f"alone, {found.count:,} messages", f"{median(found.alone):,.0f}",
            _spread(found.alone, ",.0f"), f"{median(found.cpu_us):.1f}", "", "", "", "",
        ],
        [
            f"beside the intake, {_LIMIT:,}/s at most", f"{median(found.beside):,.0f}",
            _spread(found.beside, ",.0f"), f"{median(cpu):.1f}" if cpu else "",
            f"{median(pair.without.rate for pair in found.pairs):,.0f}",
            f"{median(pair.beside.rate for pair in found.pairs):,.0f}",
            f"{median(shares):.2f}", _spread(shares, ".2f"),
        ],
    ]  # fmt: skip


def _spread(values: list[float], form: str) -> str:
    return f"{min(values):{form}} to {max(values):{form}}"
