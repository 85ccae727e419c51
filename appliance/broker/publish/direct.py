"""Publishes to one of our own queues and no other: reports and marks, which are no messages."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pika

from appliance.broker.base import QUEUE
from appliance.broker.link import Link
from appliance.errors import BrokerError


async def send(link: Link, kind: str, bodies: Iterable[bytes], queue: str = QUEUE) -> None:
    """Send these bodies as AMQP messages of this type; return when all are on the broker's disk.

    On a channel of its own: the publisher counts what it sends on its own. Raises BrokerError.
    """
    channel: Any = await link.open_channel()
    done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    unconfirmed: set[int] = set()

    def end(trouble: str) -> None:
        if not done.done():
            done.set_result(trouble)

    def answered(frame: Any) -> None:
        method = frame.method
        if isinstance(method, pika.spec.Basic.Nack):
            end("refused")
        first = 1 if method.multiple else method.delivery_tag
        unconfirmed.difference_update(range(first, method.delivery_tag + 1))
        if not unconfirmed:
            end("")

    try:
        channel.add_on_return_callback(lambda *_: end("there is no queue"))
        await link.call(channel.confirm_delivery, answered)
        for tag, body in enumerate(bodies, 1):
            unconfirmed.add(tag)
            channel.basic_publish(
                "",
                queue,
                body,
                pika.BasicProperties(delivery_mode=2, type=kind, user_id=link.signs_as),
                mandatory=True,
            )
        trouble = await link.wait(done)
    finally:
        if channel.is_open:
            channel.close()
    if trouble:
        raise BrokerError(f"broker: {trouble}")
