"""The addresses that a start needs: whether they are free, and which one the broker gets."""

from typing import Final

from appliance.config import Address, Config
from appliance.errors import ConfigError, OccupiedError
from appliance.machine import ports

#: Ports tried after the default one; a host with more RabbitMQ nodes than that names its own.
_PORTS_TRIED: Final = 100


def refuse_taken(setting: str, address: Address) -> None:
    """Raise an error that begins with the setting's name, unless the address can be listened on.

    That is OccupiedError where another program listens there, else ConfigError.
    """
    _refuse(f"{setting}: can't listen on {address}", ports.problem(address))


def choose_amqp(config: Config) -> Address:
    """Return the address for our own broker.

    The default address gives way to another listener (a host's own RabbitMQ, another appliance);
    an address that was set must be free. Raises OccupiedError or ConfigError if none is.
    """
    if config.broker_url:
        return config.amqp
    if config.amqps:
        refuse_taken("APPLIANCE_AMQPS", config.amqps)
    if config.sources.get("APPLIANCE_AMQP") != "default":
        _refuse_pair_taken(config.amqp)
        return config.amqp
    host, first = config.amqp
    for port in range(first, first + _PORTS_TRIED):
        address = Address(host, port)
        if not ports.problem(address) and not ports.problem(ports.distribution(address)):
            return address
    raise OccupiedError(
        f"APPLIANCE_AMQP: every port from {first} to {first + _PORTS_TRIED - 1} of {host} is "
        "taken; name a free one"
    )


def _refuse_pair_taken(address: Address) -> None:
    refuse_taken("APPLIANCE_AMQP", address)
    second = ports.distribution(address)
    words = f"APPLIANCE_AMQP: with {address} the broker also listens on {second}"
    _refuse(words, ports.problem(second))


def _refuse(words: str, problem: str) -> None:
    if problem:
        error = OccupiedError if problem == ports.TAKEN else ConfigError
        raise error(f"{words}: {problem}")
