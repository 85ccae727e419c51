"""Fixtures of the tests of the cluster.

`running`     deploy/compose/scale, which the tests share, for a test that breaks nothing of it
`cluster`     the same for one that does: it is whole again afterwards
`under_load`  puts load on it from outside, and holds it to the promise afterwards; its figures are
              printed at the end
"""

import re
from collections.abc import Callable, Iterator

import pytest
from cluster import Cluster, needs_root
from watched import Figures, WatchedLoad, table
from ways import Way

_WAYS = (Way.PLAIN, Way.KEYED, Way.BATCH, Way.PLAIN, Way.KEYED, Way.PLAIN)

_figures: list[Figures] = []


@pytest.fixture(scope="session")
def _started(tmp_path_factory) -> Iterator[Cluster]:
    needs_root()
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        yield made.start()
    finally:
        made.remove()


@pytest.fixture
def running(_started, monkeypatch) -> Cluster:
    monkeypatch.setenv("SSL_CERT_FILE", str(_started.certificate))
    _started.wait_ready()
    return _started


@pytest.fixture
def cluster(running) -> Iterator[Cluster]:
    yield running
    running.wait_whole()
    running.check_metadata()


@pytest.fixture
def under_load(request, cluster) -> Iterator[Callable[[], WatchedLoad]]:
    made: list[WatchedLoad] = []

    def make() -> WatchedLoad:
        name = re.sub("[^a-z0-9]+", "-", request.node.name)[:80]
        made.append(WatchedLoad(cluster, name, senders=len(_WAYS), ways=_WAYS))
        return made[-1]

    yield make
    for load in made:
        load.sending.stop()
        if load.figures:
            load.figures.test = request.node.name
            _figures.append(load.figures)


def pytest_terminal_summary(terminalreporter):
    if _figures:
        terminalreporter.section("figures")
        terminalreporter.write_line(table(_figures))
