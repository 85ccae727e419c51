"""Fixtures of the tests of faults.

`appliance`   makes an `appliance run`, supervisord and all; `stack` makes separate processes
`running`     one of them that the tests of a module share; each leaves it as it found it
`under_load`  puts load on either while a fault is made, and holds it to the promise afterwards;
              its figures are shown at the end, and written to --figures FILE as JSON
`outward`     has a load's messages delivered and pulled, and holds that to its promise
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from fixtures import (
    PASSED,
    appliance,
    broker,
    idle_brokers,
    module_appliance,
    module_stack,
    pytest_runtest_makereport,
    stack,
)
from order import longest_first
from outward import Outward
from watched import Figures, WatchedLoad, table
from ways import Way

__all__ = [
    "appliance",
    "broker",
    "idle_brokers",
    "module_appliance",
    "module_stack",
    "pytest_runtest_makereport",
    "stack",
]

#: Under this name a test's figures travel with its report: the test may run in another process
#: than the one that shows them.
FIGURES = "figures"

_figures: list[Figures] = []


def pytest_addoption(parser):
    parser.addoption("--figures", type=Path, help="write the figures of all tests as JSON")


@pytest.fixture(scope="module")
def shared(module_appliance):
    return module_appliance(APPLIANCE_DELIVER_ALLOW="127.0.0.1").start().wait_ready()


@pytest.fixture
def running(shared):
    """An appliance that is ready before and after each test."""
    yield shared.wait_ready()
    shared.wait_ready()


@pytest.fixture
def under_load(request) -> Iterator[Callable[..., WatchedLoad]]:
    made: list[WatchedLoad] = []

    def make(
        target, name: str = "", kind: type[WatchedLoad] = WatchedLoad, **options
    ) -> WatchedLoad:
        name = name or re.sub("[^a-z0-9]+", "-", request.node.name)[:80]
        made.append(kind(target, name, **options))
        return made[-1]

    yield make
    for load in made:
        load.sending.stop()
        if load.figures:
            load.figures.test = request.node.name
            request.node.user_properties.append((FIGURES, asdict(load.figures)))
    unverified = [load for load in made if not load.figures]
    if request.node.stash[PASSED]:
        assert not unverified, "a test of a fault verifies what became of its load"


@pytest.fixture
def outward(request) -> Iterator[Callable[[WatchedLoad], Outward]]:
    made: list[Outward] = []

    def make(load: WatchedLoad) -> Outward:
        # So many come that the senders' process can receive them too.
        ways = (Way.PLAIN, Way.SIGNED, Way.HANDLED)
        topics = [name for name, way in load.ways.items() if way in ways]
        made.append(Outward(load.stack, topics))
        return made[-1]

    yield make
    for each in made:
        each.close()
    if request.node.stash[PASSED]:
        assert all(each.is_verified for each in made), "what goes out is verified"


def pytest_collection_modifyitems(items):
    """Begin with what takes minutes."""
    longest_first(
        items,
        (
            "test_full_disk.py",
            "test_starved.py",
            "test_killed.py",
            "test_listening.py",
            "test_lost_names.py",
            "test_hanging.py",
            "test_neighbours.py",
            "test_taken_away.py",
        ),
    )


def pytest_runtest_logreport(report):
    if report.when == "teardown":
        _figures.extend(Figures(**each) for name, each in report.user_properties if name == FIGURES)


def pytest_terminal_summary(terminalreporter, config):
    if _figures:
        terminalreporter.section("figures")
        terminalreporter.write_line(table(_figures))
    if path := config.getoption("--figures"):
        path.write_text(json.dumps([asdict(one) for one in _figures], indent=2) + "\n")
