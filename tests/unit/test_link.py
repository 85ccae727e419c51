"""The broker's addresses, and the order in which a link tries them; no broker is needed."""

import asyncio
import contextlib
import gc
import json
import socket
import time

import pytest
import structlog
from harness import free_port

from appliance.broker import broker_addresses as addresses
from appliance.broker import link as link_module
from appliance.broker.broker_addresses import parameters, resolve
from appliance.broker.link import Link
from appliance.config import load
from appliance.errors import BrokerError


def config(tmp_path, *urls):
    return load({"APPLIANCE_DATA": str(tmp_path), "APPLIANCE_BROKER_URL": ",".join(urls)})


def test_each_address_has_its_own_user_and_virtual_host(tmp_path):
    one, other = parameters(config(tmp_path, "amqp://a:b@one/v", "amqps://c:d@other:5"))
    assert (one.host, one.port, one.credentials.username, one.virtual_host) == (
        "one", 5672, "a", "v",
    )  # fmt: skip
    assert (other.host, other.port, other.credentials.password) == ("other", 5, "d")
    assert one.connection_attempts == other.connection_attempts == 1


def test_our_own_node_has_one_address(tmp_path):
    (own,) = parameters(load({"APPLIANCE_DATA": str(tmp_path), "APPLIANCE_AMQP": "127.0.0.1:5"}))
    assert (own.host, own.port, own.credentials.username) == ("127.0.0.1", 5, "appliance")


def answers(monkeypatch, **addresses):
    """Have names stand for addresses; a name that is not among them has none."""

    def getaddrinfo(host, port, *_, **__):
        if host not in addresses:
            raise socket.gaierror(-2, "Name or service not known")
        kind = socket.SOCK_STREAM
        return [(socket.AF_INET, kind, 6, "", (ip, port)) for ip in addresses[host]]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def test_every_address_of_a_name_is_tried_and_a_name_without_one_passed_over(tmp_path, monkeypatch):
    answers(monkeypatch, nodes=["192.0.2.1", "192.0.2.2", "192.0.2.1"], last=["192.0.2.3"])
    each = parameters(config(tmp_path, "amqp://nodes", "amqp://nobody", "amqp://last:7"))
    resolved = [(one.host, one.port) for one in asyncio.run(resolve(each))]
    assert sorted(resolved) == [("192.0.2.1", 5672), ("192.0.2.2", 5672), ("192.0.2.3", 7)]


@pytest.mark.parametrize("urls", [["amqp://all"], ["amqp://a", "amqp://b", "amqp://c"]])
def test_processes_begin_with_different_nodes_and_keep_to_their_order(tmp_path, monkeypatch, urls):
    three = [f"192.0.2.{n}" for n in range(3)]
    answers(monkeypatch, all=three, a=three[:1], b=three[1:2], c=three[2:])
    firsts = set()
    for process in range(20):
        monkeypatch.setattr(addresses, "_order", lambda own=process: bytes([own]))
        orders = [asyncio.run(resolve(parameters(config(tmp_path, *urls)))) for _ in "ab"]
        assert [one.host for one in orders[0]] == [one.host for one in orders[1]]
        firsts.add(orders[0][0].host)
    assert len(firsts) == 3


@pytest.mark.parametrize(
    ("found", "are_nodes"),
    [
        (["192.0.2.1"], False),
        (["192.0.2.1", "2001:db8::1"], False),  # one broker, by two protocols
        (["192.0.2.1", "192.0.2.2"], True),
        (["fe80::1%eth0", "fe80::2%eth0", "192.0.2.1"], True),
    ],
)
def test_a_name_with_several_addresses_of_a_kind_is_a_cluster(
    tmp_path, monkeypatch, found, are_nodes
):
    answers(monkeypatch, broker=found)
    resolved = asyncio.run(resolve(parameters(config(tmp_path, "amqp://broker"))))
    assert [addresses.is_node(one) for one in resolved] == [are_nodes] * len(found)
    if not are_nodes:
        assert [one.host for one in resolved] == found
    assert {(one.heartbeat, one.socket_timeout) for one in resolved} == (
        {(5, 2)} if are_nodes else {(10, 5)}
    )


def test_several_urls_are_a_cluster_and_our_own_node_is_none(tmp_path):
    several = parameters(config(tmp_path, "amqp://192.0.2.1", "amqp://192.0.2.2"))
    own = parameters(load({"APPLIANCE_DATA": str(tmp_path), "APPLIANCE_AMQP": "127.0.0.1:5"}))
    assert [addresses.is_node(one) for one in asyncio.run(resolve(several))] == [True, True]
    assert [addresses.is_node(one) for one in asyncio.run(resolve(own))] == [False]


def test_the_address_that_was_tried_last_comes_last(tmp_path):
    each = parameters(config(tmp_path, *(f"amqp://192.0.2.{n}" for n in range(3))))
    for last, order in ((None, "012"), (("192.0.2.0", 5672), "120"), (("192.0.2.9", 1), "012")):
        assert [one.host[-1] for one in addresses.behind(each, last)] == list(order)


def test_names_without_an_address_are_an_error_that_names_the_last(tmp_path, monkeypatch):
    answers(monkeypatch)
    each = parameters(config(tmp_path, "amqp://one", "amqp://other"))
    with pytest.raises(BrokerError, match="broker: other has no address"):
        asyncio.run(resolve(each))


def test_a_certificate_is_checked_against_the_name_and_not_the_address(tmp_path, monkeypatch):
    answers(monkeypatch, secure=["192.0.2.1"])
    (one,) = asyncio.run(resolve(parameters(config(tmp_path, "amqps://secure"))))
    assert (one.host, one.ssl_options.server_hostname) == ("192.0.2.1", "secure")


class Ears:
    """Listens on some ports, answers no AMQP and counts who comes."""

    def __init__(self, count):
        self.came = [0] * count
        self.ports = []

    async def open(self, stack):
        for number in range(len(self.came)):
            server = await asyncio.start_server(self._hear(number), "127.0.0.1", 0)
            await stack.enter_async_context(server)
            self.ports.append(server.sockets[0].getsockname()[1])

    def _hear(self, number):
        def heard(_, writer):
            self.came[number] += 1
            writer.close()

        return heard


def test_a_link_tries_one_address_after_another_and_begins_again(tmp_path, monkeypatch):
    monkeypatch.setattr(link_module, "_BACKOFF_LAST", 0.1)

    async def body():
        ears = Ears(3)
        async with contextlib.AsyncExitStack() as stack:
            await ears.open(stack)
            urls = [f"amqp://127.0.0.1:{port}" for port in ears.ports]
            link = Link(config(tmp_path, *urls), None, lambda _: None, quiet=True)
            running = asyncio.create_task(link.run())
            until = time.monotonic() + 20
            while min(ears.came) < 2 and time.monotonic() < until:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await link.close()
            await running
        assert min(ears.came) >= 2
        assert max(ears.came) - min(ears.came) <= 1

    asyncio.run(body())


def test_a_link_that_is_lost_as_soon_as_it_is_open_waits_longer_each_time(tmp_path, monkeypatch):
    """As with a queue that RabbitMQ could not start: it ends each connection at once."""

    async def nothing(_):
        pass

    monkeypatch.setattr(Link, "_connect", nothing)
    monkeypatch.setattr(Link, "_disconnect", nothing)
    opened = []

    async def body():
        async def on_open(link):
            opened.append(link)
            link.drop("the queue is dead")

        link = Link(config(tmp_path, "amqp://nobody"), on_open, lambda _: None, quiet=True)
        running = asyncio.create_task(link.run())
        await asyncio.sleep(1.2)
        await link.close()
        await running

    asyncio.run(body())
    assert 2 <= len(opened) <= 6


@contextlib.contextmanager
def lines_of(capsys):
    """Yield what fills with (level, event, reason) of the lines that were logged meanwhile."""
    lines = []
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.JSONRenderer()],
        cache_logger_on_first_use=False,
    )
    try:
        yield lines
    finally:
        structlog.reset_defaults()
    found = map(json.loads, capsys.readouterr().out.splitlines())
    lines += [(line["level"], line["event"], line["reason"]) for line in found]


def logged(capsys, monkeypatch, starting):
    """Return what a link logs in several attempts while nothing listens."""
    monkeypatch.setattr(link_module, "_BACKOFF_LAST", 0.1)
    monkeypatch.setattr(link_module, "_STARTING", starting)
    attempts = 0

    def lost(_):
        nonlocal attempts
        attempts += 1

    async def body():
        link = Link(load({"APPLIANCE_BROKER_URL": f"amqp://127.0.0.1:{free_port()}"}), None, lost)
        running = asyncio.create_task(link.run())
        while attempts < 5:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await link.close()
        await running

    with lines_of(capsys) as lines:
        asyncio.run(body())
    return [(level, event) for level, event, _ in lines]


def test_a_broker_that_starts_together_with_us_is_waited_for_without_a_warning(capsys, monkeypatch):
    assert logged(capsys, monkeypatch, 30) == [("info", "waiting for the broker")]


def test_a_broker_that_does_not_come_is_warned_of_once(capsys, monkeypatch):
    assert logged(capsys, monkeypatch, 0) == [("warning", "broker unavailable")]


@pytest.mark.parametrize("others", [0, 1], ids=["a broker", "one of several nodes"])
def test_a_handshake_that_is_given_up_is_one_plain_line(tmp_path, capsys, monkeypatch, others):
    """What pika raises into the event loop would be a line of its own, with a traceback."""
    monkeypatch.setattr(link_module, "_CALL_TIMEOUT", 0.2)
    monkeypatch.setattr(link_module, "_NODE_CALL_TIMEOUT", 0.2)
    monkeypatch.setattr(link_module, "_STARTING", 0)
    raised, given_up = [], []

    async def body():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))
        with contextlib.ExitStack() as stack:
            mute = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in "ab"]
            ports = [each.getsockname()[1] for each in mute[: 1 + others]]
            urls = [f"amqp://127.0.0.1:{port}" for port in ports]
            link = Link(config(tmp_path, *urls), None, given_up.append)
            running = asyncio.create_task(link.run())
            while len(given_up) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await link.close()  # amid the next one, as likely as not
            await running
            await asyncio.sleep(0)
        gc.collect()  # a future that failed and was not asked says so at its end

    with lines_of(capsys) as lines:
        asyncio.run(body())
    assert raised == []
    assert lines == [("warning", "broker unavailable", "broker: no answer within 0 s")]


def test_a_link_that_never_ran_is_closed_at_once(tmp_path):
    link = Link(config(tmp_path, "amqp://nobody"), None, lambda _: None)
    began = time.monotonic()
    asyncio.run(link.close())
    assert time.monotonic() - began < 0.5
