"""The memory that each part may take: all of them together must fit into that of the machine.

With little memory the parts take less at once instead of being killed by the kernel again and
again: one worker, smaller requests, fewer and smaller envelopes on their way. What is refused
then is refused with words, and what was accepted is stored.
"""

from dataclasses import replace
from typing import Final, NamedTuple

from appliance.config import PREFIX, Config
from appliance.machine import cores, memory

_MIB: Final = 2**20
#: The least memory. With 320 MiB the broker was ended by the kernel again and again while it took
#: large AMQP messages after bursts.
LEAST_BYTES: Final = 384 * _MIB
#: Below it, the parts take less than they would.
SMALL_BYTES: Final = 512 * _MIB


class Allowance(NamedTuple):
    """Sizes in bytes."""

    #: bodies of requests that are coming or not confirmed yet, all together
    bodies: int
    #: envelopes that a worker holds, and bytes of them that it stores in one transaction
    prefetch: int
    group: int
    #: stored envelopes that a worker may acknowledge later
    owed: int
    #: a segment of the broker's log, which it also keeps in memory, and the largest AMQP message
    segment: int
    amqp_message: int


#: An AMQP message holds an envelope, as large as the largest request after encoding, with room. The
#: broker keeps what is in the present segment in memory, stored or not: with 64 MiB of segments it
#: took up to 120 MiB, and takes up to 90 with 32.
_ORDINARY: Final = Allowance(64 * _MIB, 32, 8 * _MIB, 16, 32 * _MIB, 128 * _MIB)
#: Bytes of requests that a worker's envelopes can have together, where requests can be large.
_PREFETCH_BYTES: Final = 256 * _MIB
_SMALL_REQUEST: Final = 4 * _MIB
_SMALL: Final = Allowance(8 * _MIB, 2, _MIB, 1, 4 * _MIB, 5 * _MIB)


def usable() -> int:
    """Return the bytes of memory that the appliance may use: the machine's, or fewer."""
    machine = memory.total()
    return min(memory.limit() or machine, machine)


def is_small() -> bool:
    """Whether there is so little memory that the parts take less at once."""
    return usable() < SMALL_BYTES


def allowance(config: Config) -> Allowance:
    """Return what the parts may take."""
    if not is_small():
        prefetch = min(_ORDINARY.prefetch, _PREFETCH_BYTES // config.max_request_bytes)
        return _ORDINARY._replace(bodies=config.max_bodies_bytes, prefetch=prefetch)
    message = max(_SMALL.amqp_message, config.max_request_bytes * 5 // 4)
    return _SMALL._replace(bodies=config.max_bodies_bytes, amqp_message=message)


def fit(config: Config) -> Config:
    """Return the settings with defaults that fit the machine: its cores, and its memory if little.

    What was set stays as it was set.
    """
    config = _fit_cores(config)
    if not is_small():
        return config

    def smaller(attribute: str, value: int) -> int:
        name = f"{PREFIX}{attribute.upper()}"
        if config.sources.get(name) != "default":
            return int(getattr(config, attribute))
        sources[name], texts[name] = "little memory", str(value)
        return value

    sources, texts = dict(config.sources), dict(config.texts)
    request = smaller("max_request_bytes", max(config.max_message_bytes, _SMALL_REQUEST))
    return replace(
        config,
        workers=smaller("workers", 1),
        max_request_bytes=request,
        max_bodies_bytes=smaller("max_bodies_bytes", max(_SMALL.bodies, request)),
        sources=sources,
        texts=texts,
    )


def _fit_cores(config: Config) -> Config:
    """Say how many API processes there are, where that is left to the machine."""
    if config.api_processes:
        return config
    number = 1 if is_small() else cores.api_processes(cores.usable())
    name = f"{PREFIX}API_PROCESSES"
    return replace(
        config,
        api_processes=number,
        sources=dict(config.sources) | {name: "the machine's cores"},
        texts=dict(config.texts) | {name: str(number)},
    )
