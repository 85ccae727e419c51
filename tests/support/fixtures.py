"""Fixtures that start the real parts, for every folder of tests that needs them.

`broker`        one RabbitMQ for the whole session, for tests that speak AMQP themselves
`stack`         makes a Stack (broker, API, workers) that ends with the test
`module_stack`  the same, ending with the module: tests that don't break it share one
`appliance`     makes an Appliance (`appliance run`) that ends with the test
`module_appliance`  the same, ending with the module
"""

from collections.abc import Callable, Iterator

import pytest
from harness import Broker, Stack
from supervised import Appliance

#: Whether a test's own part passed, for fixtures that look at it when they end.
PASSED = pytest.StashKey[bool]()

_running: list[Stack | Appliance] = []


@pytest.fixture(scope="session")
def broker(tmp_path_factory):
    made = Broker(tmp_path_factory.mktemp("broker"), {})
    made.start()
    try:
        made.wait()
        yield made
    finally:
        made.process.kill()


def _factory(tmp_path_factory):
    made: list[Stack] = []

    def make(workers: int = 1, start: bool = True, **settings) -> Stack:
        stack = Stack(tmp_path_factory.mktemp("stack"), workers, settings)
        made.append(stack)
        _running.append(stack)
        return stack.start() if start else stack

    yield make
    for stack in made:
        stack.close()
        _running.remove(stack)


@pytest.fixture
def stack(tmp_path_factory):
    yield from _factory(tmp_path_factory)


@pytest.fixture(scope="module")
def module_stack(tmp_path_factory):
    yield from _factory(tmp_path_factory)


def _appliances(tmp_path_factory) -> Iterator[Callable[..., Appliance]]:
    made: list[Appliance] = []

    def make(**settings: str) -> Appliance:
        made.append(Appliance(tmp_path_factory.mktemp("run"), **settings))
        _running.append(made[-1])
        return made[-1]

    yield make
    for one in made:
        one.clear()
        _running.remove(one)


@pytest.fixture
def appliance(tmp_path_factory):
    yield from _appliances(tmp_path_factory)


@pytest.fixture(scope="module")
def module_appliance(tmp_path_factory):
    yield from _appliances(tmp_path_factory)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Show the processes' logs with a test that failed."""
    report = yield
    if report.when == "call":
        item.stash[PASSED] = report.passed
    if report.failed:
        for stack in _running:
            report.sections.append((f"logs in {stack.data}", stack.logs()))
    return report
