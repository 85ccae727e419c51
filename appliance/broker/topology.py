"""The exchanges and the queues, and which process makes them.

The publisher makes them; consumers wait until they are there. So one process knows how old the
queue is, and it accepts nothing until the queue would survive a crash of the broker: RabbitMQ keeps
the name of a new quorum queue in memory for up to 500 ms, and a broker killed in that time comes
back with the queue empty, whatever it had confirmed.

On our own node a mark, a file in the node's folder, shows that the queue is older than that.
RabbitMQ leaves some files of a node unsynced, which a power cut would take; so they are synced
before anything is accepted (`node.synced`). Of an outside broker we have no files, and other hosts
may make its queue: there each process waits once, and again whenever the queue was gone.

The nodes of a cluster share new queues. One that is there is taken as it is: an earlier version, or
its operator, may have made it with other arguments.
"""

import asyncio
import time
from pathlib import Path
from typing import Any, Final

import structlog

from appliance.broker import shard_routes
from appliance.broker.base import DEAD, EXCHANGE, MQTT, QUEUE
from appliance.broker.link import Link
from appliance.broker.node import log_copies, queue_files, queue_snapshots, synced
from appliance.broker.queue_looks import exists
from appliance.broker.shards import Shard
from appliance.config import Config
from appliance.errors import BrokerError

#: Seconds; a queue was intact from an age of 1.2 s on.
_SETTLE: Final = 2.0
#: Seconds between two looks for the queues, which the publisher makes: doubled from the first to
#: the last, because the broker logs each look that finds none.
_LOOK_FIRST: Final = 0.25
_LOOK_LAST: Final = 5.0
#: Seconds between two looks for the mark, which costs the broker nothing.
_MARK_LOOK: Final = 0.1
#: Nodes that keep a new queue of a cluster: with three, one of them can be lost.
MEMBERS: Final = 3
_WHOLE: Final = Shard()

_log: Any = structlog.get_logger(__name__)


def queue_arguments(members: int | None = None) -> dict[str, str | int | bool]:
    """Return the arguments that both queues are declared with; `members` where nodes share them.

    They can't change later: the broker refuses to declare a queue with other arguments than it was
    made with. Bounds that may change are a policy (`node.definitions`).
    """
    arguments: dict[str, str | int | bool] = {
        "x-queue-type": "quorum",  # the only type that fsyncs before it confirms
        "x-single-active-consumer": True,  # one worker stores, in order; the next takes over
        # RabbitMQ 4 drops after 20 redeliveries where nothing is said; -1 drops at once on 3.10.
        "x-delivery-limit": 1_000_000,
    }
    if members is not None:
        arguments["x-quorum-initial-group-size"] = members
        arguments["x-queue-leader-locator"] = "balanced"
    return arguments


class Topology:
    """Makes the exchanges and the queues, and knows when the queues are old enough.

    `shard` is the one whose queue is published to.
    """

    def __init__(self, config: Config, shard: Shard = _WHOLE) -> None:
        self._shard = shard
        self._is_shared = bool(config.broker_urls)  # others may set another number of shards
        self._has_begun = False  # this process has brought its number of shards into force
        self._home = None if config.broker_urls else config.broker_home
        self._takes_mqtt = self._home is not None and config.takes_mqtt
        self._is_settled = False  # this process has waited for these queues

    async def declare(self, link: Link) -> None:
        """Make what is missing; return when a message that is confirmed would survive.

        Raises BrokerError.
        """
        if self._has_begun:
            self._has_begun = await shard_routes.check(link, self._shard.number)
        if self._has_settled() and not await exists(link, self._shard.queue):
            self._forget()
        is_new = not (self._has_settled() and await exists(link, DEAD))
        channel: Any = link.channel
        if is_new and self._takes_mqtt:
            # MQTT knows no `mandatory`: without the queue its messages would be confirmed and gone.
            await link.call(channel.exchange_delete, exchange=MQTT)
        await link.call(
            channel.exchange_declare, exchange=DEAD, exchange_type="fanout", durable=True
        )
        await _declare_queue(link, DEAD)
        await link.call(
            channel.exchange_declare, exchange=EXCHANGE, exchange_type="topic", durable=True
        )
        await _declare_queue(link, self._shard.queue)
        if self._shard.is_whole:
            await link.call(channel.queue_bind, queue=QUEUE, exchange=EXCHANGE, routing_key="#")
        if is_new:
            _log.info("new queue settling", seconds=_SETTLE)
            await link.pause(_SETTLE)
        if self._home is not None:
            await asyncio.to_thread(_sync_node, self._home)
        # Envelopes that were given up wait in QUEUE until there is a binding; so there is none
        # before DEAD is safe.
        await link.call(channel.queue_bind, queue=DEAD, exchange=DEAD)
        if self._is_shared and not self._has_begun:
            await shard_routes.begin(link, self._shard)
            self._has_begun = True
        if self._takes_mqtt:
            await link.call(
                channel.exchange_declare,
                exchange=MQTT,
                exchange_type="topic",
                durable=True,
                arguments={"alternate-exchange": EXCHANGE},
            )
        self._is_settled = True
        if self._home is not None:
            _write_mark(self._home)

    def note_gone(self) -> None:
        """The queue was gone; the one that is there next time may be another host's new one."""
        self._is_settled = False

    def _has_settled(self) -> bool:
        return self._is_settled if self._home is None else _mark(self._home).exists()

    def _forget(self) -> None:
        self._is_settled = False
        if self._home is not None:
            _mark(self._home).unlink(missing_ok=True)


async def _declare_queue(link: Link, queue: str) -> None:
    if link.has_others and await exists(link, queue):
        return
    channel: Any = link.channel
    arguments = queue_arguments(MEMBERS) if link.has_others else queue_arguments()
    await link.call(channel.queue_declare, queue=queue, durable=True, arguments=arguments)


async def wait_until_exists(link: Link, config: Config, queue: str) -> None:
    """Return when a queue that the publisher makes is there. Raises BrokerError.

    Our own node's mark is looked for first: the broker logs each look for a queue in vain.
    """
    mark = None if config.broker_urls else _mark(config.broker_home)
    if mark is not None and not mark.exists():
        _log.info("waiting for the queue", queue=queue)
        patience = time.monotonic() + _LOOK_LAST
        while not mark.exists() and time.monotonic() < patience:
            await link.pause(_MARK_LOOK)
    delay = _LOOK_FIRST
    while not await exists(link, queue):
        if delay == _LOOK_FIRST and mark is None:
            _log.info("waiting for the queue", queue=queue)
        await link.pause(delay)
        delay = min(delay * 2, _LOOK_LAST)


def _sync_node(home: Path) -> None:
    """Have on disk all that our own node has written so far. Raises BrokerError."""
    try:
        queue_files.keep(home)
        queue_snapshots.keep(home)
        log_copies.keep(home)
        synced.sync(home)
        synced.mark(home, synced.DATABASE)
    except OSError as error:
        raise BrokerError(
            f"broker: its files can't be synced ({error.strerror}: {error.filename})"
        ) from error


def _mark(home: Path) -> Path:
    return home / synced.QUEUE


def _write_mark(home: Path) -> None:
    try:
        synced.mark(home, synced.QUEUE)
    except OSError as error:
        # Without it the next start waits again: slower, and as safe.
        _log.warning("queue mark not written", path=str(_mark(home)), error=str(error))
