"""Attacks of a stranger, who has no token: everybody else is served meanwhile, in bounded memory.

Each attack runs for a few seconds and megabytes, on this machine only, while another client asks
whether the API is well.
"""

import contextlib
import itertools
import socket
import statistics
import threading
import time
from pathlib import Path

import pytest

MIB = 2**20
#: Seconds and bytes that an attack lasts at most.
SECONDS = 3.0
BYTES = 128 * MIB
#: Seconds between two pieces of an attack, so that it lasts.
PAUSE = 0.002
#: MiB that the API can grow meanwhile, and seconds until a health check is answered. Alone it
#: takes 1 ms; the machine may be busy.
GROWTH_MIB = 64
MEDIAN_SECONDS = 0.05


@pytest.fixture(scope="module")
def running(module_stack):
    return module_stack(workers=0)


def dial(stack):
    host, _, port = stack.url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), 10)


def memory_mib(process):
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmHWM")


CHUNKED = b"POST %b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
TRAILERS = b"a:b\r\n" * 3000

#: Name -> what is sent first, and then for ever.
ATTACKS = {
    "trailers at an open address": (CHUNKED % b"/healthz" + b"0\r\n", TRAILERS),
    "trailers where a token is needed": (
        CHUNKED % b"/v1/topics/x/messages" + b"0\r\n",
        TRAILERS,
    ),
    "one trailer's value": (CHUNKED % b"/healthz" + b"0\r\na: ", b"b" * 65536),
    "one trailer's name": (CHUNKED % b"/healthz" + b"0\r\n", b"b" * 65536),
    "one chunk's extension": (CHUNKED % b"/healthz" + b"1;", b"b" * 65536),
    "one chunk's size": (CHUNKED % b"/healthz", b"0" * 65536),
    "one header's value": (b"GET / HTTP/1.1\r\na: ", b"b" * 65536),
    "one header's name": (b"GET / HTTP/1.1\r\n", b"b" * 65536),
    "one address": (b"GET /", b"b" * 65536),
    "one method": (b"", b"B" * 65536),
    "headers": (b"GET / HTTP/1.1\r\n", b"a:b\r\n" * 3000),
    "empty lines": (b"", b"\r\n" * 30_000),
    "pipelined health checks": (b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 1500),
    "pipelined refusals": (b"", b"GET /v1/topics HTTP/1.1\r\nHost: x\r\n\r\n" * 1500),
    "pipelined heads of tiny headers": (
        b"",
        (b"GET /v1/topics HTTP/1.1\r\n" + b"a:b\r\n" * 127 + b"\r\n") * 100,
    ),
    "pipelined pages": (b"", b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 1500),
    "pipelined upgrades": (
        b"",
        b"GET /healthz HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n" * 1000,
    ),
    "a body behind a refusal": (
        b"POST /v1/topics/x/messages HTTP/1.1\r\nContent-Length: 9999999999\r\n\r\n",
        b"b" * 65536,
    ),
    "a body at an open address": (
        b"GET /healthz HTTP/1.1\r\nContent-Length: 9999999999\r\n\r\n",
        b"b" * 65536,
    ),
}


@contextlib.contextmanager
def attack(stack, first, more):
    """Send without reading, again on a new connection whenever one is closed."""
    end = time.monotonic() + SECONDS
    sent = itertools.count()
    stop = threading.Event()

    def send():
        count = 0
        while time.monotonic() < end and count < BYTES and not stop.is_set():
            with contextlib.suppress(OSError), dial(stack) as link:
                link.settimeout(1.0)
                link.sendall(first)
                while time.monotonic() < end and count < BYTES and not stop.is_set():
                    link.sendall(more)
                    count += len(more)
                    next(sent)
                    time.sleep(PAUSE)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield thread
    finally:
        stop.set()
        thread.join()
    assert next(sent), "the attack sent something"


@pytest.mark.parametrize("name", ATTACKS)
def test_a_strangers_connection_takes_neither_memory_nor_time(running, name):
    floor = memory_mib(running.api)
    took = []
    with attack(running, *ATTACKS[name]) as thread:
        while thread.is_alive():
            began = time.monotonic()
            assert running.get("/healthz").status_code == 200
            took.append(time.monotonic() - began)
            time.sleep(0.01)
    assert len(took) > 5
    assert statistics.median(took) < MEDIAN_SECONDS
    assert memory_mib(running.api) < floor + GROWTH_MIB
    assert "Traceback" not in running.api.log


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\na: " + b"b" * 30_000,
        b"GET /healthz HTTP/1.1\r\nContent-Length: 65536\r\n\r\n" + b"b" * 60_000,
        CHUNKED % b"/v1/topics/x/messages" + b"ffff\r\n" + b"b" * 60_000,
        b"GET /readyz HTTP/1.1\r\n\r\n" * 2000,
    ],
    ids=["half a head", "half a body", "half a chunk", "requests"],
)
def test_many_strangers_together_take_no_more_than_their_share(running, data):
    """Two thousand connections, each of which leaves something unfinished and reads nothing."""
    floor = memory_mib(running.api)
    with contextlib.ExitStack() as links:
        for _ in range(2000):
            with contextlib.suppress(OSError):  # it may be refused while it still sends
                link = links.enter_context(dial(running))
                link.settimeout(0.2)
                link.sendall(data)
        began = time.monotonic()
        assert running.get("/healthz").status_code == 200
        assert time.monotonic() - began < 5
    assert memory_mib(running.api) < floor + GROWTH_MIB + 2000 * 10 / 1024  # 10 KiB each for itself
    assert "Traceback" not in running.api.log
