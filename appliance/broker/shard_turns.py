"""The queues that a worker consumes: an earlier number of shards comes first, until it is gone.

After the number was changed, messages still wait in the queues of the number before, and later ones
of the same topics are in the new queues already. So no worker consumes the queues of the number in
force until the others, which get nothing any more, are empty, and nobody has messages of theirs in
hand: a queue without messages and without consumers has all its messages stored. Then they are
removed. Each worker sees the same, whatever number it was started with.
"""

import math
import time
from typing import Any, Final, NamedTuple

import structlog

from appliance.broker import shard_routes, shards
from appliance.broker.link import Link
from appliance.broker.queue_looks import QueueState, exists, is_exchange, look
from appliance.broker.shards import Shard

#: Seconds for which the old queues must have been closed before they are removed: what a broker
#: has routed to them, it has put into them by then.
_CLOSED: Final = 2.0
#: Seconds after which it is said that another worker keeps old queues, though they are empty.
_HELD: Final = 30.0
#: Seconds between two looks: doubled from the first to the last while there is nothing at all,
#: because the broker logs each look that finds none.
_LOOK: Final = 0.25
_LOOK_LAST: Final = 5.0

_log: Any = structlog.get_logger(__name__)


class ShardTurn(NamedTuple):
    """What is to be consumed now."""

    queues: list[str]
    #: The number of shards in force.
    in_force: int
    #: The queues are of another number: another turn follows once they are empty.
    is_earlier: bool = False


class ShardTurns:
    """Tells one worker its turn; `number` is how many shards it was started with."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._in_force = 0
        self._were_any = False  # there was more than one shard once
        self._since = 0.0
        self._told: list[str] = []

    async def next(self, link: Link) -> ShardTurn:
        """Return what is to be consumed on a connection that has just been opened.

        It waits while another worker has the last messages of old queues, and for the queues of the
        number in force. Raises BrokerError.
        """
        delay, patience = _LOOK, time.monotonic() + _HELD
        while True:
            number = await self._look_in_force(link)
            if number == self._number == 1 and not self._were_any:
                return ShardTurn([Shard().queue], 1)
            earlier = await _earlier(link, number) if self._were_any else {}
            if earlier:
                self._tell(earlier)
                if any(state.waiting for state in earlier.values()):
                    return ShardTurn(list(earlier), number, is_earlier=True)
                held = [name for name, state in earlier.items() if state.consumers]
                if self._is_long_in_force() and not held:
                    await self._remove(link, earlier)
                elif held and time.monotonic() >= patience:
                    patience = math.inf
                    _log.warning("earlier shards held", queues=held)
            elif await exists(link, Shard(number).queue):
                return ShardTurn([each.queue for each in shards.all_of(number)], number)
            else:
                delay = min(2 * delay, _LOOK_LAST)
            await link.pause(delay)

    async def is_over(self, link: Link, turn: ShardTurn) -> bool:
        """Whether something else is to be consumed now. Raises BrokerError."""
        if turn.is_earlier:
            states = [await look(link, queue) for queue in turn.queues]
            return not any(state is not None and state.waiting for state in states)
        if turn.in_force == 1:
            return await self._look_in_force(link) != 1
        return not await is_exchange(link, shards.exchange(turn.in_force))

    async def _look_in_force(self, link: Link) -> int:
        self._were_any = await is_exchange(link, shards.EVER)
        number = await shard_routes.in_force(link) if self._were_any else 1
        if number != self._in_force:
            self._in_force, self._since = number, time.monotonic()
        return number

    def _is_long_in_force(self) -> bool:
        return time.monotonic() >= self._since + _CLOSED

    def _tell(self, earlier: dict[str, QueueState]) -> None:
        if self._told != list(earlier):
            self._told = list(earlier)
            waiting = sum(state.waiting for state in earlier.values())
            _log.info("earlier shards found", queues=self._told, envelopes=waiting)

    async def _remove(self, link: Link, earlier: dict[str, QueueState]) -> None:
        channel: Any = link.channel
        for number in shards.others(self._in_force):
            names = [shard.queue for shard in reversed(shards.all_of(number))]
            if names[-1] in earlier:
                for name in (shards.places(number), *names):
                    await link.call(channel.queue_delete, queue=name)
        self._told = []
        _log.info("earlier shards removed", queues=list(earlier), in_force=self._in_force)


async def _earlier(link: Link, in_force: int) -> dict[str, QueueState]:
    """Return the queues of other numbers, each number's first one first; it is removed last."""
    found = {}
    for number in shards.others(in_force):
        if await exists(link, Shard(number).queue):
            for shard in shards.all_of(number):
                state = await look(link, shard.queue)
                if state is not None:
                    found[shard.queue] = state
    return found
