"""Where the broker is and as whom we speak to it."""

from typing import Final

import pika

from appliance import credentials
from appliance.config import Config

#: User name of our own node; its password is made at the first start.
USER: Final = "appliance"
#: Seconds. A broker that hangs is noticed within two of them; SIGSTOP of a few seconds is not.
_HEARTBEAT: Final = 10
#: Seconds for each step of connecting.
_CONNECT_TIMEOUT: Final = 5


def parameters(config: Config) -> pika.connection.Parameters:
    """Return how to connect to the broker that the settings name, ours or another.

    Raises ConfigError where our own broker's password can't be read.
    """
    if config.broker_url:
        parameters: pika.connection.Parameters = pika.URLParameters(config.broker_url)
    else:
        parameters = pika.ConnectionParameters(
            host=config.amqp.host,
            port=config.amqp.port,
            credentials=pika.PlainCredentials(USER, credentials.broker_password(config)),
        )
    parameters.heartbeat = _HEARTBEAT
    parameters.socket_timeout = _CONNECT_TIMEOUT
    parameters.stack_timeout = 2 * _CONNECT_TIMEOUT
    parameters.connection_attempts = 1
    return parameters
