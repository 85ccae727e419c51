"""Attacks by readers who have a token: too many streams, and clients that read nothing."""

import socket
import time
from pathlib import Path

import pytest
from served_streams import Reader

#: Streams that one client asks for, one after another.
OPENS = 5_000
#: Clients that ask for everything and read nothing.
DEAF = 100
#: MiB that the API can grow by meanwhile.
GROWTH_MIB = 96


@pytest.fixture(scope="module")
def running(module_stack):
    """An appliance with 24 MB of messages."""
    one = module_stack()
    lines = "\n".join("x" * 12_000 for _ in range(500))
    for _ in range(4):
        one.publish("large", lines, {"split": "lines"}).raise_for_status()
    one.wait_rows(2000, "large")
    return one


def token(stack, name):
    wish = {"name": name, "rights": ["read"]}
    return stack.client.post("/v1/tokens", json=wish).json()["token"]


def memory_mib(stack):
    for line in Path(f"/proc/{stack.api.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise AssertionError


def seconds_until_served(stack):
    """Return how long a message and a health check take together."""
    begin = time.monotonic()
    answer = stack.publish("beside", b"x", Prefer="wait=20")
    assert answer.status_code == 201
    assert stack.get("/healthz").status_code == 200
    return time.monotonic() - begin


def asked(port, secret, path, size=None):
    """Open a connection, ask for a stream, and leave it alone."""
    link = socket.socket()
    if size:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
    link.settimeout(30)
    link.connect(("127.0.0.1", port))
    link.sendall(
        f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {secret}\r\n\r\n".encode()
    )
    return link


def test_five_thousand_opens_get_as_many_streams_as_there_are_and_disturb_nobody(running):
    port, secret = int(running.url.rpartition(":")[2]), token(running, "greedy")
    own = Reader(port, "/v1/topics/beside/stream?all=1", running.token)
    assert own.event()[0] == "place"
    before = memory_mib(running)
    kept, statuses = [], []
    for n in range(OPENS):
        link = asked(port, secret, f"/v1/stream?all={n % 2}")
        statuses.append(int(link.recv(12)[9:]))
        if statuses[-1] == 200:
            kept.append(link)
        else:
            link.close()
    assert statuses == [200] * 239 + [503] * (OPENS - 239)
    assert running.get("/v1/status").json()["streams"] == {"open": 240, "most": 256}
    assert memory_mib(running) - before < GROWTH_MIB
    assert seconds_until_served(running) < 5
    assert own.messages(1)[0]["body"] == "x"
    administrator = Reader(port, "/v1/stream", running.token)
    assert administrator.event()[0] == "place"
    for link in (own, administrator, *kept):
        link.close()


def test_clients_that_read_nothing_cost_bounded_memory_and_hold_up_nobody(running):
    port, secret = int(running.url.rpartition(":")[2]), token(running, "deaf")
    quick = Reader(port, "/v1/topics/beside/stream?all=1", running.token)
    assert quick.event()[0] == "place"
    before = memory_mib(running)
    deaf = [asked(port, secret, "/v1/stream?all=1&after=0", 4096) for _ in range(DEAF)]
    grown = []
    for _ in range(10):
        assert seconds_until_served(running) < 5
        assert quick.messages(1)[0]["body"] == "x"
        grown.append(memory_mib(running) - before)
    assert max(grown) < GROWTH_MIB
    for link in (quick, *deaf):
        link.close()
