"""Names of hosts, looked up by the system; one that has no answer yet is played by a lock."""

import asyncio
import socket
import threading
import time

import pytest
import uvloop

from appliance.machine import names


@pytest.fixture
def silent(monkeypatch):
    """Return the names that were asked for; no name server answers until the test has ended."""
    asked, answered, came = [], threading.Event(), threading.Event()

    def getaddrinfo(host, *_, **__):
        asked.append(host)
        answered.wait(30)
        came.set()
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield asked
    answered.set()
    if asked:
        assert came.wait(30)
        while names._under_way:  # the next test has none of ours
            time.sleep(0.01)


def test_address_is_not_looked_up(silent):
    assert asyncio.run(names.addresses("192.0.2.1", 5672)) == ["192.0.2.1"]
    assert asyncio.run(names.addresses("2001:db8::1", 5672)) == ["2001:db8::1"]
    assert silent == []


def test_name_of_this_machine_has_its_address():
    assert set(asyncio.run(names.addresses("localhost", 5672))) <= {"127.0.0.1", "::1"}


@pytest.mark.parametrize("host", ["nobody.invalid", "x" * 70 + ".example", "a..b"])
def test_name_that_stands_for_nothing_is_an_error(host):
    with pytest.raises(OSError):  # each resolver has other words
        asyncio.run(names.addresses(host, 5672))


def test_silent_name_server_is_waited_for_until_the_deadline(silent, monkeypatch):
    monkeypatch.setattr(names, "_SECONDS", 0.05)
    with pytest.raises(OSError, match="no name server has answered"):
        asyncio.run(names.addresses("broker.example", 5672))


def test_name_that_is_asked_for_again_and_again_costs_one_thread(silent, monkeypatch):
    monkeypatch.setattr(names, "_SECONDS", 0.02)

    async def ask():
        for _ in range(5):
            await asyncio.gather(
                *(names.addresses("broker.example", 5672) for _ in range(10)),
                return_exceptions=True,
            )

    asyncio.run(ask())
    assert silent == ["broker.example"]


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_event_loop_does_not_wait_for_a_lookup_when_it_ends(silent, run):
    async def ask_and_end():
        asking = asyncio.ensure_future(names.addresses("broker.example", 5672))
        while not silent:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        asking.cancel()

    began = time.monotonic()
    run(ask_and_end())
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("host", "address"),
    [("localhost", "127.0.0.1"), ("LocalHost", "127.0.0.1"), ("broker", "broker"), ("::1", "::1")],
)
def test_localhost_needs_no_lookup(host, address):
    assert names.without_lookup(host) == address
