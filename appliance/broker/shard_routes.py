"""Brings a number of shards into force: the exchanges and bindings that send messages to them.

A process does so when it starts, and only then: the last one that was started decides. Others that
publish with another number see within a second that it is not in force any more, and refuse. What
they publish until then, and what other clients publish, is sent to the first shard. So the new
routes are made before the old ones are removed: at each moment there is one, and a message that is
sent by both is stored once.
"""

from typing import Any, Final

import structlog

from appliance.broker import shards
from appliance.broker.base import EXCHANGE, QUEUE
from appliance.broker.link import Link
from appliance.broker.publish import direct
from appliance.broker.queue_looks import is_exchange, look
from appliance.broker.shards import Shard
from appliance.errors import BrokerError

#: Seconds between two looks whether the first shard's publisher has made the exchange.
_LOOK: Final = 0.25
#: Ten years in milliseconds.
_YEARS: Final = 10 * 365 * 86_400_000

_log: Any = structlog.get_logger(__name__)


async def begin(link: Link, shard: Shard) -> None:
    """Bring the number of this shard into force; its queue is there. Raises BrokerError.

    The first shard's publisher makes what all of them need, and removes what an earlier number had.
    """
    if shard.is_whole:
        if await is_exchange(link, shards.EVER):
            await _end_others(link, shard.number)
        return
    if shard.place:
        while not await is_exchange(link, shards.exchange(shard.number)):
            await link.pause(_LOOK)
        await _bind(link, shard)
        return
    await _make(link, shard)
    channel: Any = link.channel
    await link.call(channel.queue_unbind, queue=QUEUE, exchange=EXCHANGE, routing_key="#")
    await _end_others(link, shard.number)
    # Once more: another process may have begun with another number at the same moment.
    await _make(link, shard)
    _log.info("shards in force", shards=shard.number)


async def check(link: Link, number: int) -> bool:
    """Return whether this number is in force. Raises BrokerError where another one is.

    A broker that was made anew knows of none, and the number is brought into force again.
    """
    if not await is_exchange(link, shards.EVER):
        return number == 1
    found = await in_force(link)
    if found != number:
        raise BrokerError(
            f"{found} shards are in force, because a process with APPLIANCE_SHARDS={found} was "
            f"started later than this one with {number}; end this one, or start it again"
        )
    return True


async def in_force(link: Link) -> int:
    """Return the number of shards in force. Raises BrokerError."""
    for number in shards.others(1):
        if await is_exchange(link, shards.exchange(number)):
            return number
    return 1


async def _make(link: Link, shard: Shard) -> None:
    """Make the exchanges, and bind what is there."""
    number, channel = shard.number, _channel(link)
    rest, name = shards.rest_exchange(number), shards.exchange(number)
    await link.call(
        channel.exchange_declare, exchange=shards.EVER, exchange_type="fanout", durable=True
    )
    await link.call(channel.exchange_declare, exchange=rest, exchange_type="fanout", durable=True)
    await link.call(channel.queue_bind, queue=shard.queue, exchange=rest)
    await _make_places(link, number)
    await link.call(
        channel.exchange_declare,
        exchange=name,
        exchange_type="headers",
        durable=True,
        arguments={"alternate-exchange": rest},
    )
    await _bind(link, shard)


async def _bind(link: Link, shard: Shard) -> None:
    """Bind a shard's queue, and its exchange to the one of all messages."""
    name, channel = shards.exchange(shard.number), _channel(link)
    await link.call(
        channel.queue_bind,
        queue=shard.queue,
        exchange=name,
        arguments={"x-match": "all", shards.HEADER: shard.label},
    )
    await link.call(channel.exchange_bind, destination=name, source=EXCHANGE, routing_key="#")


async def _end_others(link: Link, number: int) -> None:
    """Remove the exchanges of every other number: its queues get nothing any more."""
    channel = _channel(link)
    for other in shards.others(number):
        if other > 1:
            for name in (shards.exchange(other), shards.rest_exchange(other)):
                await link.call(channel.exchange_delete, exchange=name)


async def _make_places(link: Link, number: int) -> None:
    """Make the queue with a place for each shard, which the workers share among them.

    A place too many costs nothing: one of two workers then stands by at that shard.
    """
    queue = shards.places(number)
    if await look(link, queue) is not None:
        return
    arguments = {
        "x-queue-type": "quorum",
        "x-delivery-limit": 1_000_000,
        "x-quorum-initial-group-size": 3,
        "x-consumer-timeout": _YEARS,  # nobody acknowledges a place
    }
    await link.call(_channel(link).queue_declare, queue=queue, durable=True, arguments=arguments)
    places = [str(place).encode() for place in range(number)]
    await direct.send(link, "appliance.place", places, queue)


def _channel(link: Link) -> Any:
    return link.channel
