"""TCP addresses to listen on: what a host's name stands for, and whether a port is free."""

import errno
import ipaddress
import socket
from typing import Final

from appliance.config import Address
from appliance.machine.names import without_lookup

#: Added to, or taken from, the AMQP port, as RabbitMQ does.
_DISTRIBUTION_DISTANCE: Final = 20_000

#: The problem of an address that another program listens on.
TAKEN: Final = "something else listens there already"


def distribution_port(amqp_port: int) -> int:
    """Return the loopback port for Erlang's own protocol that belongs to an AMQP port."""
    above = amqp_port + _DISTRIBUTION_DISTANCE
    return above if above < 2**16 else amqp_port - _DISTRIBUTION_DISTANCE


def distribution(amqp: Address) -> Address:
    """Return the address for Erlang's own protocol that belongs to an AMQP address."""
    return Address("127.0.0.1", distribution_port(amqp.port))


def is_open_to_others(address: Address) -> bool:
    """Whether other machines may reach what listens on the address: all but the loopback's."""
    try:
        host = ipaddress.ip_address(resolve(address).host)
    except OSError:
        return True
    return not host.is_loopback


def resolve(address: Address) -> Address:
    """Return the address with an IP address as its host. Raises OSError where there is none."""
    host = without_lookup(address.host)
    try:
        host = str(ipaddress.ip_address(host))
    except ValueError:
        records = socket.getaddrinfo(host, address.port, type=socket.SOCK_STREAM)
        host = str(records[0][4][0])
    return Address(host, address.port)


def problem(address: Address) -> str:
    """Try to listen on the address; return why that can't be done, or an empty text."""
    try:
        records = socket.getaddrinfo(
            without_lookup(address.host),
            address.port,
            type=socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE,
        )
    except OSError as error:
        return f"unknown host ({error.strerror})"
    family, kind, protocol, _, target = records[0]
    try:
        with socket.socket(family, kind, protocol) as listener:
            # As servers do: a port that only remembers old connections is free.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(target)
            # Two sockets can bind with that option; only listening shows that another listens.
            listener.listen(1)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return TAKEN
        return str(error.strerror or error)
    return ""
