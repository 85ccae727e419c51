"""The exchanges and the queues, and who may make them.

The publisher makes them; consumers wait until they are there. So there is one process that knows
how old the queue is, and it accepts nothing until the queue would survive a crash of the broker:
RabbitMQ keeps the name of a new quorum queue in memory for up to 500 ms, and a broker killed in
that time comes back with the queue empty, whatever it had confirmed. A file in the data folder
says that the queue is older than that. What our own node has in files that it doesn't sync would
go with a power cut; so they are synced before anything is accepted (`safe`).
"""

import asyncio
from pathlib import Path
from typing import Any, Final

import structlog

from appliance.broker.link import Link
from appliance.broker.node import synced
from appliance.config import Config
from appliance.errors import BrokerError

EXCHANGE: Final = "appliance"
QUEUE: Final = "appliance.store"
#: An exchange, and the queue that is bound to it: what the broker gives up on, for a policy of our
#: node says that QUEUE's dead letters go there (`node.files`).
DEAD: Final = "appliance.dead"

#: Seconds; intact was seen from 1.2 s on.
_SETTLE: Final = 2.0

_QUEUE_ARGUMENTS: Final = {
    "x-queue-type": "quorum",  # the only type that fsyncs before it confirms
    "x-single-active-consumer": True,  # one worker stores, in order; the next takes over
    # RabbitMQ 4 drops after 20 redeliveries where nothing is said; -1 drops at once on 3.10.
    "x-delivery-limit": 1_000_000,
}

_log: Any = structlog.get_logger(__name__)


async def declare(link: Link, config: Config) -> None:
    """Make what is missing, and return when a message that is confirmed would survive.

    Raises BrokerError.
    """
    home = config.data / "broker"
    mark = home / synced.QUEUE
    if not await exists(link, QUEUE):
        mark.unlink(missing_ok=True)
    is_new = not (mark.exists() and await exists(link, DEAD))
    channel: Any = link.channel
    await link.call(channel.exchange_declare, exchange=DEAD, exchange_type="fanout", durable=True)
    await link.call(
        channel.queue_declare, queue=DEAD, durable=True, arguments=dict(_QUEUE_ARGUMENTS)
    )
    await link.call(
        channel.exchange_declare, exchange=EXCHANGE, exchange_type="topic", durable=True
    )
    await link.call(
        channel.queue_declare, queue=QUEUE, durable=True, arguments=dict(_QUEUE_ARGUMENTS)
    )
    await link.call(channel.queue_bind, queue=QUEUE, exchange=EXCHANGE, routing_key="#")
    if is_new:
        _log.info("queue is new, accepting after it is safe", seconds=_SETTLE)
        await asyncio.sleep(_SETTLE)
        if link.channel is None or channel.is_closed:
            raise BrokerError("broker: lost while its queue was new")
    if not config.broker_url:
        await asyncio.to_thread(_make_safe, home)
    # What was given up waits in QUEUE until there is a way; so there is none before DEAD is safe.
    await link.call(channel.queue_bind, queue=DEAD, exchange=DEAD)
    _write(mark)


async def exists(link: Link, queue: str) -> bool:
    """Whether a queue is there. Asked on a channel of its own: a "no" closes the channel."""
    channel: Any = await link.open_channel()
    answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def settle(there: bool) -> None:
        if not answer.done():
            answer.set_result(there)

    channel.add_on_close_callback(lambda *_: settle(False))
    channel.queue_declare(queue=queue, passive=True, callback=lambda _: settle(True))
    there = bool(await link.wait(answer))
    if there:
        channel.close()
    return there


def _make_safe(home: Path) -> None:
    """Have on disk what our own node has written so far, at its first start or a later one."""
    try:
        synced.sync(home)
        synced.mark(home, synced.DATABASE)
    except OSError as error:
        raise BrokerError(
            f"broker: its files can't be synced ({error.strerror}: {error.filename})"
        ) from error


def _write(mark: Path) -> None:
    try:
        synced.mark(mark.parent, mark.name)
    except OSError as error:
        # Without it the next start waits again: slower, and as safe.
        _log.warning("mark can't be written", path=str(mark), error=str(error))
