"""Looks at queues and exchanges: whether they are there, how many messages wait, who consumes.

Each is asked on a channel of its own: a "no" closes the channel.
"""

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

from appliance.broker.link import Link


async def exists(link: Link, queue: str) -> bool:
    """Whether a queue is there."""
    return await waiting(link, queue) is not None


async def waiting(link: Link, queue: str) -> int | None:
    """Return how many messages of a queue no consumer has yet; None where there is no queue."""
    found = await look(link, queue)
    return None if found is None else found.waiting


class QueueState(NamedTuple):
    """What a look at a queue shows."""

    #: messages that no consumer has yet
    waiting: int
    consumers: int


async def look(link: Link, queue: str) -> QueueState | None:
    """Return the state of a queue; None where there is no such queue."""
    method = await _ask(
        link,
        lambda channel, answered: channel.queue_declare(
            queue=queue, passive=True, callback=answered
        ),
    )
    return method and QueueState(method.message_count, method.consumer_count)


async def is_exchange(link: Link, name: str) -> bool:
    """Whether an exchange is there."""
    method = await _ask(
        link,
        lambda channel, answered: channel.exchange_declare(
            exchange=name, passive=True, callback=answered
        ),
    )
    return method is not None


async def _ask(link: Link, question: Callable[[Any, Callable[[Any], None]], object]) -> Any:
    """Return what the broker answers; None for a "no"."""
    channel: Any = await link.open_channel()
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def settle(frame: Any) -> None:
        if not answer.done():
            answer.set_result(frame and frame.method)

    channel.add_on_close_callback(lambda *_: settle(None))
    question(channel, settle)
    method = await link.wait(answer)
    if method is not None:
        channel.close()
    return method
