"""Pings a node of a cluster: whether it still keeps messages, together with the others.

A node that is cut off from the others and not from us goes on as if nothing were: it sends
heartbeats, and the queue's leader on it believes to lead. Its consumers get nothing any more. Only
what needs the majority of the nodes tells: a confirm of a quorum queue. So a worker has one message
of a few bytes confirmed each second, which replaces the one before it.
"""

import asyncio
from typing import Any, Final

import pika
import pika.exceptions

from appliance.broker.link import Link
from appliance.errors import BrokerError

#: The queue that pings replace one another in.
QUEUE: Final = "appliance.ping"
_ARGUMENTS: Final = {
    "x-queue-type": "quorum",
    "x-max-length": 1,
    "x-quorum-initial-group-size": 3,
}
#: Seconds between two pings.
_PERIOD: Final = 0.8
#: Seconds without a confirm, after which another node is tried; and the one after that, as it is
#: perhaps the queue that has no leader.
_PATIENCE: Final = 3.0
_PATIENCE_NEXT: Final = 6.0


class Ping:
    """The pings of one client, on whichever node it is connected to."""

    def __init__(self) -> None:
        self._patience = _PATIENCE

    async def run(self, link: Link) -> None:
        """Ping until the link is lost; end it when the node confirms nothing in time."""
        try:
            await self._run(link)
        except (BrokerError, pika.exceptions.AMQPError) as error:
            link.drop(str(error))

    async def _run(self, link: Link) -> None:
        channel: Any = await link.open_channel()
        confirmed = asyncio.Event()
        await link.call(channel.queue_declare, QUEUE, durable=True, arguments=dict(_ARGUMENTS))
        await link.call(channel.confirm_delivery, lambda _: confirmed.set())
        properties = pika.BasicProperties(delivery_mode=2)
        while True:
            confirmed.clear()
            channel.basic_publish("", QUEUE, b"", properties)
            try:
                await asyncio.wait_for(confirmed.wait(), self._patience)
            except TimeoutError:
                patience, self._patience = self._patience, _PATIENCE_NEXT
                raise BrokerError(
                    f"broker: no confirm within {patience:g} s from this node"
                ) from None
            self._patience = _PATIENCE
            await link.pause(_PERIOD)
