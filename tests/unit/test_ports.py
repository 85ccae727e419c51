"""Addresses to listen on: which are free, and which belong together."""

import socket

import pytest

from appliance.config import Address
from appliance.machine import ports


@pytest.mark.parametrize(("amqp", "distribution"), [(5672, 25672), (45535, 65535), (45536, 25536)])
def test_the_second_port_is_a_valid_one_for_every_first(amqp, distribution):
    assert ports.distribution_port(amqp) == distribution
    assert ports.distribution(Address("10.0.0.1", amqp)) == Address("127.0.0.1", distribution)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_port_is_free_until_another_listens_and_again_once_it_has_ended(host):
    with socket.create_server(
        (host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET
    ) as server:
        address = Address(host, server.getsockname()[1])
        assert ports.problem(address) == "something else listens there already"
    assert ports.problem(address) == ""


def test_an_address_that_is_not_this_machines_can_not_be_listened_on():
    assert ports.problem(Address("192.0.2.1", 8080)) == "Cannot assign requested address"


def test_a_host_without_an_address_is_named_as_the_problem():
    assert ports.problem(Address("nobody.invalid", 8080)).startswith("unknown host (")
    with pytest.raises(OSError, match=r"Name or service not known|Temporary failure"):
        ports.resolve(Address("nobody.invalid", 8080))


@pytest.mark.parametrize(
    ("host", "hosts"),
    [("127.0.0.1", {"127.0.0.1"}), ("::1", {"::1"}), ("localhost", {"127.0.0.1", "::1"})],
)
def test_an_address_is_resolved_to_an_ip_address(host, hosts):
    resolved = ports.resolve(Address(host, 5672))
    assert resolved.host in hosts
    assert resolved.port == 5672
