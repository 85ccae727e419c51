"""The meta of a message that another AMQP or MQTT client published, from its AMQP properties."""

from collections.abc import Iterator
from typing import Any, Final

from appliance.broker.base import MQTT
from appliance.model import meta as metas

#: Properties that say where a message comes from or what it is; pika's names.
_PROPERTIES: Final = ("type", "app_id", "user_id", "correlation_id", "reply_to", "message_id")
#: Headers that the broker writes for itself.
_BROKERS_OWN: Final = frozenset({"x-death", "x-first-death-exchange", "x-first-death-queue",
                                 "x-first-death-reason", "x-delivery-count", "cc", "bcc",
                                 "x-last-death-exchange", "x-last-death-queue",
                                 "x-last-death-reason", "ledger", "meta"})  # fmt: skip
#: Headers that RabbitMQ's MQTT plugin adds to every message.
_MQTT: Final = frozenset({"x-mqtt-publish-qos", "x-mqtt-dup"})
#: The user property of MQTT 5 that keeps a message from being stored twice.
_KEY: Final = "idempotency-key"
#: Headers that are looked at: a table can have thousands.
_MAX_HEADERS: Final = 256
#: Characters of a property that is kept. A short string has 255 bytes, which JSON's escapes can
#: make six times as many; all together have room in a meta.
_MAX_PROPERTY: Final = 200


def is_mqtt(exchange: str, properties: Any) -> bool:
    """Whether a message came by MQTT: by our exchange, or an outside broker's plugin.

    RabbitMQ 3 adds headers to it, RabbitMQ 4 nothing. One that only looks so gains nothing by it.
    """
    return exchange == MQTT or not _MQTT.isdisjoint(properties.headers or ())


def key(properties: Any, *, mqtt: bool) -> str | bytes:
    """Return the idempotency key of a message; empty for none.

    That is AMQP's `message_id`. MQTT 3.1.1 has no such thing; of MQTT 5 it is the user property
    `idempotency-key`, which RabbitMQ 4 makes a header.
    """
    value = (properties.headers or {}).get(_KEY) if mqtt else properties.message_id
    return value if isinstance(value, str | bytes) else ""


def meta(properties: Any, *, mqtt: bool = False) -> str | None:
    """Return the meta of a message with these properties (pika's BasicProperties)."""
    headers = properties.headers or {}
    members: dict[str, Any] = {"via": "mqtt" if mqtt else "amqp"}
    for name in _PROPERTIES:
        value = getattr(properties, name)
        if value and len(text := _property(value)) <= _MAX_PROPERTY:
            members[name] = text
    return metas.encode(members, dict(_kept(headers)))


def _property(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode(errors="backslashreplace")


def _kept(headers: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the headers whose values are text, numbers or truth values, as text."""
    for given, value in list(headers.items())[:_MAX_HEADERS]:
        name = _property(given).lower()
        if name in _BROKERS_OWN:
            continue
        if isinstance(value, bool):
            yield name, "true" if value else "false"
        elif isinstance(value, str | bytes):
            yield name, _property(value)
        elif isinstance(value, int | float):
            yield name, str(value)
