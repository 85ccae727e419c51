"""Containers and volumes for the tests, removed again whatever happens."""

import uuid
from collections.abc import Callable, Iterator

import pytest
from engine import HARDENED, Container, docker


@pytest.fixture(scope="session")
def volumes() -> Iterator[Callable[[], str]]:
    """Make new volumes; they are removed at the end."""
    made: list[str] = []

    def make() -> str:
        made.append(f"appliance-test-{uuid.uuid4().hex[:12]}")
        docker("volume", "create", made[-1])
        return made[-1]

    yield make
    for volume in made:
        docker("volume", "rm", "--force", volume, check=False)


@pytest.fixture
def volume(volumes) -> str:
    return volumes()


@pytest.fixture
def start(volumes) -> Iterator[Callable[..., Container]]:
    """Start containers of a test's own."""
    started: list[Container] = []

    def run(volume: str, *options: str) -> Container:
        started.append(Container(volume, *options))
        return started[-1]

    yield run
    for container in started:
        container.remove()


@pytest.fixture(scope="module")
def running(volumes) -> Iterator[Container]:
    """One container for the tests of a module, with everything taken from it that it can spare."""
    container = Container(volumes(), *HARDENED)
    try:
        yield container.wait_ready()
    finally:
        container.remove()
