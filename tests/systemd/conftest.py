"""`make test-systemd` names the packages; each suite of Debian gets one host for all its tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from host import Host

SYSTEMD_IMAGE = os.environ.get("SYSTEMD_IMAGE", "queue-appliance-systemd")


def package(name: str) -> Path:
    path = Path(os.environ.get(name, ""))
    assert path.is_file(), f"{name} names no package: run `make test-systemd`"
    return path


@pytest.fixture(scope="session")
def previous() -> Path:
    return package("PREVIOUS_DEB")


@pytest.fixture(scope="session")
def current() -> Path:
    return package("CURRENT_DEB")


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def suite(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def host(suite) -> Iterator[Host]:
    made = Host(f"{SYSTEMD_IMAGE}:{suite}")
    try:
        yield made
    finally:
        made.remove()
