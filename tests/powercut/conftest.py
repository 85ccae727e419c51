"""Fixtures of the power cuts.

`bench`     makes an appliance on a disk that can be cut; it is taken down whatever happens
`share`     how many of the cuts a phase gets
`examine`   ends the appliance, starts a fresh one on each of the cuts, and notes the figures
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict

import pytest
from cuts import Bench, Cut, Outcome
from order import longest_first

#: Under this name what became of a cut travels with its test's report: the test may run in another
#: process than the one that shows it.
OUTCOME = "outcome of a cut"

#: phase -> what became of its cuts
_figures: dict[str, list[Outcome]] = defaultdict(list)


def pytest_addoption(parser):
    parser.addoption("--cuts", type=int, default=16, help="how many times the power is cut")


def pytest_collection_modifyitems(config, items):
    """Allow for a machine that is busy: a cut costs a start of the whole appliance.

    Begins with what takes minutes.
    """
    longest_first(items, ("test_cuts.py", "test_upkeep_cuts.py"))
    for item in items:
        item.add_marker(pytest.mark.timeout(300 + 40 * config.getoption("--cuts")))


@pytest.fixture
def share(request) -> Callable[[float], int]:
    return lambda part: max(1, math.ceil(part * request.config.getoption("--cuts")))


@pytest.fixture
def bench(tmp_path) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(kind: type[Bench] = Bench, **options) -> Bench:
        folder = tmp_path / f"bench-{len(made)}"
        folder.mkdir()
        made.append(kind(folder, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def examine(request) -> Callable[..., list[Outcome]]:
    def run(bench: Bench, cuts: list[Cut], **options) -> list[Outcome]:
        bench.power_off()
        found = [bench.examine(cut, **options) for cut in cuts]
        request.node.user_properties.extend((OUTCOME, asdict(outcome)) for outcome in found)
        return found

    return run


def pytest_runtest_logreport(report):
    if report.when == "teardown":
        outcomes = [Outcome(**each) for name, each in report.user_properties if name == OUTCOME]
        _figures[report.nodeid.rpartition("::")[2]].extend(outcomes)


def pytest_terminal_summary(terminalreporter):
    if any(_figures.values()):
        terminalreporter.section("power cuts")
        terminalreporter.write_line(_table())


def _table() -> str:
    lines = [
        "   cuts  amid it   answered 202  from the queue   lost   copy, ms  examined, s  what",
    ]
    for name, outcomes in _figures.items():
        if outcomes:
            lines.append(_row(outcomes, name))
    return "\n".join([*lines, _row([o for found in _figures.values() for o in found], "all")])


def _row(outcomes: list[Outcome], name: str) -> str:
    return (
        f"{len(outcomes):7} {sum(o.during for o in outcomes):8} "
        f"{sum(o.accepted for o in outcomes):14} {sum(o.from_queue for o in outcomes):15} "
        f"{sum(o.lost for o in outcomes):6} "
        f"{statistics.median(o.took for o in outcomes) * 1000:10.1f} "
        f"{statistics.median(o.seconds for o in outcomes):12.1f}  {name}"
    )
