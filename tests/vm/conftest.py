"""`make test-vm` names the package and the machine's files; one guest for all tests."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from guest import Disk, Guest
from inbox import CREDENTIAL, Inbox

#: Settings that were there before the package, as a tool that sets up machines leaves them.
SETTINGS = "APPLIANCE_HTTP=0.0.0.0:8080\n"
#: The token from a credential: a file that only systemd and root can read.
DROP_IN = """\
[Service]
LoadCredential=token:/etc/appliance/api-token
Environment=APPLIANCE_TOKEN_FILE=%d/token
"""


def named(name: str) -> Path:
    path = Path(os.environ.get(name, ""))
    assert path.is_file(), f"{name} names no file: run `make test-vm`"
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def pytest_addoption(parser):
    parser.addoption("--guest-cuts", type=int, default=1, help="how often the power is cut")


def pytest_generate_tests(metafunc):
    if "cut" in metafunc.fixturenames:
        metafunc.parametrize("cut", range(metafunc.config.getoption("--guest-cuts")))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Show beside a failure what the guest's services said: nothing of the guest outlives a run."""
    report = yield
    guest = getattr(item, "funcargs", {}).get("guest")
    if report.failed and guest:
        for title, of_what in {
            "the broker's journal": ["-u", "appliance-broker", "-n", "60"],
            "what systemd did, in this boot": ["_PID=1", "-n", "40"],
        }.items():
            command = ("journalctl", "-b", "--no-pager", "-o", "short-monotonic", *of_what)
            try:
                said = guest.run(*command, check=False)
            except (AssertionError, OSError) as error:
                said = f"the guest does not answer: {error!r}"
            report.sections.append((title, said))
    return report


@pytest.fixture(scope="session")
def guest(tmp_path_factory) -> Iterator[Guest]:
    folder = tmp_path_factory.mktemp("guest")
    disk = Disk(
        named("GUEST_ROOT"),
        folder,
        Path(__file__).parent / "agent.py",
        {
            "/root/appliance.deb": named("CURRENT_DEB"),
            "/etc/appliance/appliance.env": SETTINGS,
            "/etc/appliance/api-token": f"{CREDENTIAL}\n",
            "/etc/systemd/system/appliance-api.service.d/credential.conf": DROP_IN,
        },
    )
    made = Guest(disk, 8080, free_port())
    try:
        yield made
    finally:
        made.remove()


@pytest.fixture(scope="session")
def inbox(guest) -> Iterator[Inbox]:
    made = Inbox(guest)
    yield made
    made.close()
