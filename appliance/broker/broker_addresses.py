"""Addresses of the broker: how to connect to each, in which order, and whether they are nodes.

Several URLs, or a name with several addresses, are the nodes of one cluster. Then a node that says
nothing is worth leaving, and the clocks are shorter. A name with one IPv4 and one IPv6 address is
one broker.
"""

import asyncio
import copy
import functools
import hashlib
import ipaddress
import secrets
from collections import Counter
from collections.abc import Sequence
from typing import Final

import pika

from appliance import credentials
from appliance.broker.base import USER
from appliance.config import Config
from appliance.errors import BrokerError
from appliance.machine import names

#: Seconds. A broker that hangs is noticed within two of them; SIGSTOP of a few seconds is not.
_HEARTBEAT: Final = 10
#: The same in a cluster, where the broker notices a host of ours that is cut off, and gives the
#: messages that its worker held to the next one.
_NODE_HEARTBEAT: Final = 5
#: Seconds for each step of connecting; to one of several nodes.
_CONNECT_TIMEOUT: Final = 5
_NODE_CONNECT_TIMEOUT: Final = 2


def parameters(config: Config) -> list[pika.connection.Parameters]:
    """Return how to connect to each of the broker's addresses, in the order of the settings.

    Raises ConfigError where our own broker's password can't be read.
    """
    each: list[pika.connection.Parameters] = [pika.URLParameters(url) for url in config.broker_urls]
    if not each:
        password = credentials.broker_password(config)
        host, port = config.amqp
        identity = pika.PlainCredentials(USER, password)
        here = names.without_lookup(host)
        each = [pika.ConnectionParameters(host=here, port=port, credentials=identity)]
    for one in each:
        one.heartbeat = _HEARTBEAT
        one.socket_timeout = _CONNECT_TIMEOUT
        one.stack_timeout = 2 * _CONNECT_TIMEOUT
        one.connection_attempts = 1
    return each


async def resolve(each: list[pika.connection.Parameters]) -> list[pika.connection.Parameters]:
    """Return how to connect to each IP address that the hosts' names stand for.

    Those of nodes are in this process's own order. All names are looked up at once. Raises
    BrokerError where none of them has an address.
    """
    looked_up = await asyncio.gather(
        *(names.addresses(one.host, one.port) for one in each), return_exceptions=True
    )
    resolved: list[pika.connection.Parameters] = []
    reason = ""
    are_nodes = len(each) > 1
    for one, found in zip(each, looked_up, strict=True):
        if isinstance(found, OSError):
            reason = f"{one.host} has no address ({found.strerror or found})"
            continue
        if isinstance(found, BaseException):
            raise found
        are_nodes = are_nodes or _are_nodes(found)
        for host in found:
            at_address = copy.copy(one)
            at_address.host = host
            if one.ssl_options is not None:  # the certificate is the name's
                name = one.ssl_options.server_hostname or one.host
                at_address.ssl_options = pika.SSLOptions(one.ssl_options.context, name)
            resolved.append(at_address)
    if not resolved:
        raise BrokerError(f"broker: {reason}")
    if are_nodes:
        resolved.sort(key=_place)
        for one in resolved:
            one.heartbeat = _NODE_HEARTBEAT
            one.socket_timeout = _NODE_CONNECT_TIMEOUT
            one.stack_timeout = 2 * _NODE_CONNECT_TIMEOUT
    return resolved


def is_node(one: pika.connection.Parameters) -> bool:
    """Whether this address, of those that `resolve` returned, is one of several nodes."""
    return bool(one.heartbeat == _NODE_HEARTBEAT)


def behind(
    resolved: Sequence[pika.connection.Parameters], last: tuple[str, int] | None
) -> list[pika.connection.Parameters]:
    """Return the addresses in the order in which to try them after `last`, which comes last."""
    places = [(one.host, one.port) for one in resolved]
    begin = places.index(last) + 1 if last in places else 0
    return [*resolved[begin:], *resolved[:begin]]


def _are_nodes(found: list[str]) -> bool:
    families = Counter(ipaddress.ip_address(host.partition("%")[0]).version for host in found)
    return any(count > 1 for count in families.values())


@functools.cache
def _order() -> bytes:
    """Return this process's key: it goes through the nodes in an order of its own.

    So the processes don't crowd at one node. It is drawn when it is first asked for, because
    processes that are forks of one share what was drawn before.
    """
    return secrets.token_bytes(8)


def _place(one: pika.connection.Parameters) -> bytes:
    address = f"{one.host} {one.port}".encode()
    return hashlib.blake2b(address, key=_order(), digest_size=8).digest()
