"""Fixtures that start the real parts; see harness.py for what they can do.

`broker`        one RabbitMQ for the whole session, for tests that speak AMQP themselves
`stack`         makes a Stack (broker, API, workers) that ends with the test
`module_stack`  the same, ending with the module: tests that don't break it share one
"""

import pytest
from harness import Broker, Stack

_running: list[Stack] = []


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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Show the processes' logs with a test that failed."""
    report = yield
    if report.failed:
        for stack in _running:
            report.sections.append((f"logs in {stack.folder}", stack.logs()))
    return report
