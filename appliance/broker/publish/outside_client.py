"""Publishes one message at a time, as any other AMQP client may: the drill tries the AMQP door."""

import contextlib
from typing import Any, Final

import pika
import pika.exceptions

from appliance.broker.base import EXCHANGE
from appliance.config import Address
from appliance.errors import BrokerError

#: Seconds without a sign of life after which the connection counts as lost.
_HEARTBEAT: Final = 10


class OutsideClient:
    """A connection of a user of the AMQP door; it connects when it has to."""

    def __init__(self, address: Address, user: str, password: str, *, timeout: float) -> None:
        self._parameters = pika.ConnectionParameters(
            address.host,
            address.port,
            credentials=pika.PlainCredentials(user, password),
            heartbeat=_HEARTBEAT,
            blocked_connection_timeout=timeout,
            socket_timeout=timeout,
            stack_timeout=timeout,
        )
        self._link: Any = None
        self._channel: Any = None

    def send(self, topic: str, body: bytes, key: str | None) -> None:
        """Publish as mandatory, and wait for the confirm. Raises BrokerError."""
        try:
            if self._channel is None:
                self._link = pika.BlockingConnection(self._parameters)
                self._channel = self._link.channel()
                self._channel.confirm_delivery()
            self._channel.basic_publish(
                EXCHANGE,
                topic,
                body,
                pika.BasicProperties(message_id=key, delivery_mode=2),
                mandatory=True,
            )
        except (pika.exceptions.AMQPError, OSError) as error:
            raise BrokerError(f"AMQP: {error!r}") from error

    def close(self) -> None:
        """Disconnect."""
        link, self._link, self._channel = self._link, None, None
        if link is not None:
            with contextlib.suppress(pika.exceptions.AMQPError, OSError):
                link.close()
