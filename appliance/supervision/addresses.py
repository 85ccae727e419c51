"""Addresses to listen on: are they free, and which one for the broker."""

import errno
import socket
from typing import Final

from appliance.config import Address, Config
from appliance.errors import ConfigError
from appliance.machine.ports import distribution_port

#: Ports tried after the default one; a host with more RabbitMQ nodes than that names its own.
_PORTS_TRIED: Final = 100


def refuse_taken(setting: str, address: Address) -> None:
    """Raise ConfigError, naming the setting, unless one could listen on the address now."""
    problem = _problem(address)
    if problem:
        raise ConfigError(f"{setting}: can't listen on {address}: {problem}")


def choose_amqp(config: Config) -> Address:
    """Return the address for our own broker.

    The default address gives way to whatever is there already (a host's own RabbitMQ, another
    appliance); an address that was asked for must be free. Raises ConfigError if none is.
    """
    if config.broker_url:
        return config.amqp
    if config.sources.get("APPLIANCE_AMQP") != "default":
        _refuse_pair_taken(config.amqp)
        return config.amqp
    host, first = config.amqp
    for port in range(first, first + _PORTS_TRIED):
        address = Address(host, port)
        if not _problem(address) and not _problem(_distribution(address)):
            return address
    raise ConfigError(
        f"APPLIANCE_AMQP: every port from {first} to {first + _PORTS_TRIED - 1} of {host} is "
        "taken; name a free one"
    )


def _distribution(address: Address) -> Address:
    return Address("127.0.0.1", distribution_port(address.port))


def _refuse_pair_taken(address: Address) -> None:
    refuse_taken("APPLIANCE_AMQP", address)
    problem = _problem(_distribution(address))
    if problem:
        raise ConfigError(
            f"APPLIANCE_AMQP: with {address} the broker also listens on "
            f"{_distribution(address)}: {problem}"
        )


def _problem(address: Address) -> str:
    """Try to listen on the address; return why it can't be done, or nothing."""
    try:
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        return f"unknown host ({error.strerror})"
    family, kind, protocol, _, target = found[0]
    try:
        with socket.socket(family, kind, protocol) as probe:
            # As servers do: a port that only remembers old connections is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(target)
            # Two may bind with that option; only listening tells that someone else listens.
            probe.listen(1)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return "something else listens there already"
        return str(error.strerror or error)
    return ""
