"""Consumes the queues of shards: one each as a rule, so that several workers store at once.

The workers share places, messages in a queue of their own: a worker takes one and never
acknowledges it, and consumes the queue of the shard with that place. When it ends, the broker gives
its place to the next worker. A queue that nobody consumes, because there are fewer workers than
shards, is adopted by a worker that sees it, until another one has its place. Whoever consumes a
queue, it gives its messages to one consumer at a time, so that their order holds. It is left by the
end of the connection only: then the broker has all that is in hand back before the next one gets
anything.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import pika.exceptions
import structlog

from appliance.broker import shards
from appliance.broker.base import QUEUE
from appliance.broker.link import Link
from appliance.broker.shard_turns import ShardTurn, ShardTurns
from appliance.config import Config
from appliance.errors import BrokerError

#: Seconds between two looks at who consumes what, and looks at which a queue must be left alone.
_LOOK: Final = 1.0
_LOOKS: Final = 2

_log: Any = structlog.get_logger(__name__)


class ShardConsuming:
    """What one worker consumes; used on its event loop."""

    def __init__(self, config: Config) -> None:
        # On our own node there is one queue.
        self._turns = ShardTurns(config.shards) if config.broker_urls else None
        self._is_set = config.shards > 1
        self._consumed: set[str] = set()
        self._adopted: set[str] = set()
        self._adopt: Callable[[str], None] = self._adopted.add

    async def next(self, link: Link) -> ShardTurn:
        """Return what is to be consumed on a fresh connection; it may wait for a long time."""
        if self._turns is None:
            return ShardTurn([QUEUE], 1)
        return await self._turns.next(link)

    async def consume(
        self, link: Link, turn: ShardTurn, prefetch: int, delivered: Callable[..., None]
    ) -> None:
        """Consume on the link's channel; at most `prefetch` envelopes of one queue."""
        channel: Any = link.channel
        self._consumed, self._adopted = set(), set()

        def consume(queue: str, most: int) -> None:
            self._consumed.add(queue)
            channel.basic_qos(prefetch_count=most)
            channel.basic_consume(queue, delivered)

        if len(turn.queues) == 1:
            await link.call(channel.basic_qos, prefetch_count=prefetch)
            channel.basic_consume(turn.queues[0], delivered)
            return
        share = max(1, prefetch // len(turn.queues))
        self._adopt = partial(consume, most=share)
        if turn.is_earlier:
            for queue in turn.queues:
                consume(queue, share)
            return

        def place_came(_: Any, __: Any, ___: Any, body: bytes) -> None:
            place = int(body) if body.isdigit() else len(turn.queues)
            if place < len(turn.queues) and channel.is_open:
                queue = turn.queues[place]
                _log.info("shard taken", queue=queue)
                if queue not in self._consumed:
                    consume(queue, prefetch)
                self._adopted.discard(queue)

        places: Any = await link.open_channel()
        await link.call(places.basic_qos, prefetch_count=1)
        places.basic_consume(shards.places(turn.in_force), place_came)

    async def watch(self, link: Link, turn: ShardTurn, is_idle: Callable[[], bool]) -> None:
        """Adopt queues that nobody consumes, until others are to be consumed; end the link then.

        `is_idle` says whether nothing is in hand.
        """
        turns = self._turns
        if turns is None or not (self._is_set or turn.in_force > 1 or turn.is_earlier):
            return
        alone: Counter[str] = Counter()
        try:
            looking: Any = await link.open_channel()
            while True:
                await link.pause(_LOOK)
                if await turns.is_over(link, turn) and (is_idle() or not turn.is_earlier):
                    link.drop("another number of shards is in force")
                elif not turn.is_earlier and len(turn.queues) > 1:
                    await self._look_after(link, looking, turn, alone)
        except (BrokerError, pika.exceptions.AMQPError) as error:
            link.drop(str(error))

    async def _look_after(
        self, link: Link, looking: Any, turn: ShardTurn, alone: Counter[str]
    ) -> None:
        """Adopt each queue that nobody consumes; leave those that another worker came for."""
        answers = await asyncio.gather(
            *(link.call(looking.queue_declare, queue=each, passive=True) for each in turn.queues)
        )
        for queue, answer in zip(turn.queues, answers, strict=True):
            consumers = answer.method.consumer_count
            if queue in self._adopted and consumers > 1:
                link.drop("another worker has come for this one's queues")
            alone[queue] = 0 if consumers else alone[queue] + 1
            if alone[queue] >= _LOOKS and queue not in self._consumed:
                _log.info("shard adopted", queue=queue)
                self._adopted.add(queue)
                self._adopt(queue)
