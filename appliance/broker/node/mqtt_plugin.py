"""RabbitMQ's own MQTT plugin: when it is on, and its part of the node's configuration.

It is off unless a listener is set, and costs nothing then. What a client publishes goes under its
topic, with dots for slashes, to an exchange of its own and on to `appliance`: it is a message like
that of any other AMQP client. PUBACK comes once every queue has confirmed, so after our fsync.

RabbitMQ 3 takes a packet of up to 256 MiB from anyone, before the login: six connections made the
node take 2.9 GB, and hold all publishers back. So there it listens on the loopback only, over TLS
too.
"""

from typing import Final, NamedTuple

from appliance.broker.base import MQTT
from appliance.broker.node.release import text_of
from appliance.config import Address, Config
from appliance.errors import NodeError
from appliance.machine import ports

PLUGIN: Final = "rabbitmq_mqtt"

#: Bytes of a packet beside its message: the topic, and MQTT 5's properties.
_PACKET_ROOM: Final = 64 * 2**10
#: Bytes of a packet before the login, with its will.
_LOGIN_BYTES: Final = 16 * 2**10
#: Milliseconds from the connection to the login.
_LOGIN_MS: Final = 10_000
#: Seconds for which the session of a client that has gone is kept; it has no subscriptions.
_SESSION_SECONDS: Final = 60


class MqttDoor(NamedTuple):
    """Where it listens, at IP addresses, and the largest message that it takes, in bytes.

    `listen` is for plain text, `encrypted` for TLS; None: it does not.
    """

    listen: Address | None
    largest: int
    encrypted: Address | None = None


def door(config: Config, release: tuple[int, ...]) -> MqttDoor | None:
    """Return the MQTT door of our own node; None while it is off.

    Raises NodeError for a host without an address, a port that is taken, and what this release
    can't bear.
    """
    if not config.takes_mqtt:
        return None
    check(config, release)
    return MqttDoor(
        _free("APPLIANCE_MQTT", config.mqtt),
        config.max_message_bytes,
        _free("APPLIANCE_MQTTS", config.mqtts),
    )


def _free(setting: str, address: Address | None) -> Address | None:
    if address is None:
        return None
    try:
        listen = ports.resolve(address)
    except OSError as error:
        raise NodeError(f"{setting}: {address.host} has no address ({error})") from error
    if problem := ports.problem(listen):
        raise NodeError(f"{setting}: {address} is taken ({problem}); set it to another address")
    return listen


def check(config: Config, release: tuple[int, ...]) -> None:
    """Raise NodeError where the network could reach the plugin of a release that bounds nothing."""
    for setting, address in (("APPLIANCE_MQTT", config.mqtt), ("APPLIANCE_MQTTS", config.mqtts)):
        if release < (4,) and address is not None and ports.is_open_to_others(address):
            raise NodeError(
                f"{setting}: RabbitMQ {text_of(release)} takes packets of 256 MiB from anyone who "
                f"reaches {address}; set it to an address of 127.0.0.1, with a mosquitto in front "
                "for other machines (docs/mqtt.md), or use RabbitMQ 4 (Debian 13, the image)"
            )


def lines(door: MqttDoor, release: tuple[int, ...]) -> dict[str, str | int]:
    """Return the lines of rabbitmq.conf for the RabbitMQ `release`."""
    found: dict[str, str | int] = {
        **_listener("tcp", "local", door.listen),
        **_listener("ssl", "others", door.encrypted),
        "mqtt.vhost": "/",
        "mqtt.exchange": MQTT,
        "mqtt.allow_anonymous": "false",
        "mqtt.login_timeout": _LOGIN_MS,
        # Without it each topic's last retained message stays in memory for ever.
        "mqtt.retained_message_store": "rabbit_mqtt_retained_msg_store_noop",
    }
    if release >= (4,):
        found["mqtt.max_packet_size_unauthenticated"] = _LOGIN_BYTES
        found["mqtt.max_packet_size_authenticated"] = door.largest + _PACKET_ROOM
        found["mqtt.max_session_expiry_interval_seconds"] = _SESSION_SECONDS
    return found


def _listener(kind: str, name: str, address: Address | None) -> dict[str, str]:
    if address is None:
        return {f"mqtt.listeners.{kind}": "none"}
    return {f"mqtt.listeners.{kind}.{name}": f"{address.host}:{address.port}"}
