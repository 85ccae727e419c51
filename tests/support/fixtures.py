"""Fixtures that start the real parts, for every folder of tests that needs them.

`broker`        one RabbitMQ for the whole session, for tests that speak AMQP themselves
`stack`         makes a Stack (broker, API, workers) that ends with the test
`module_stack`  the same, ending with the module: tests that don't break it share one
`idle_brokers`  brokers whose stack has ended, cleared for the next one: a start takes seconds
`appliance`     makes an Appliance (`appliance run`) that ends with the test
`module_appliance`  the same, ending with the module
"""

from collections.abc import Callable, Iterator

import pytest
from harness import Broker, Stack
from supervised import Appliance

#: Whether a test's own part passed, for fixtures that look at it when they end.
PASSED = pytest.StashKey[bool]()

#: Settings that the node itself reads: a stack that sets one gets a broker of its own.
SETTINGS_OF_THE_NODE = frozenset(
    {"amqp", "amqps", "broker_tls_cert", "broker_tls_key", "broker_url", "data", "drain"}
    | {"log_format", "log_level", "min_free_bytes", "mqtt", "mqtts", "queue_max_bytes"}
    | {"queue_max_envelopes"}
)

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


@pytest.fixture(scope="session")
def idle_brokers() -> Iterator[list[Broker]]:
    brokers: list[Broker] = []
    yield brokers
    for each in brokers:
        each.process.kill()


def stacks(tmp_path_factory, idle_brokers: list[Broker]) -> Iterator[Callable[..., Stack]]:
    """Yield what makes stacks; those that were made end when the generator goes on."""
    made: list[Stack] = []
    shareable: list[Broker] = []

    def make(workers: int = 1, start: bool = True, own: bool | None = None, **settings) -> Stack:
        """With a broker of its `own`: if not told, where it is not started or sets one's settings.

        One that is not started and not `own` may have a broker that runs already.
        """
        if own is None:
            own = not start
        own = own or bool(SETTINGS_OF_THE_NODE & settings.keys())
        broker = idle_brokers.pop() if idle_brokers and not own else None
        stack = Stack(tmp_path_factory.mktemp("stack"), workers, settings, broker)
        made.append(stack)
        _running.append(stack)
        if not own:
            shareable.append(stack.broker)
        return stack.start() if start else stack

    yield make
    for stack in made:
        stack.close_but_broker()
        if stack.broker in shareable and stack.broker.clear():
            idle_brokers.append(stack.broker)
        else:
            stack.broker.process.kill()
        _running.remove(stack)


@pytest.fixture
def stack(tmp_path_factory, idle_brokers):
    yield from stacks(tmp_path_factory, idle_brokers)


@pytest.fixture(scope="module")
def module_stack(tmp_path_factory, idle_brokers):
    yield from stacks(tmp_path_factory, idle_brokers)


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
