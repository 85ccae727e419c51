"""Checks of the network: who can reach the addresses that the appliance listens on, and how."""

from appliance.config import Config
from appliance.doctor.diagnosis import Diagnosis, ok, warning
from appliance.machine.ports import is_open_to_others


def http(config: Config) -> Diagnosis:
    """Check that tokens and messages don't cross a network as plain text."""
    check = "HTTP network"
    if config.tls_cert:
        return ok(check, f"{config.http}, encrypted")
    if not is_open_to_others(config.http):
        return ok(check, f"{config.http}, for this machine only")
    if config.trusted_proxies or (config.public_url and config.public_url.scheme == "https"):
        return ok(check, f"{config.http}, behind a proxy that was set")
    return warning(
        check,
        f"others can reach {config.http}, where tokens and messages are plain text",
        "set APPLIANCE_TLS_CERT and APPLIANCE_TLS_KEY; or put a proxy with TLS in front, name it "
        "in APPLIANCE_TRUSTED_PROXIES, and let nobody else reach the address",
    )


def amqp(config: Config) -> Diagnosis:
    """Check that others reach the own broker over TLS only."""
    check = "AMQP network"
    if config.broker_url:
        return ok(check, "an outside broker is used (APPLIANCE_BROKER_URL)")
    if is_open_to_others(config.amqp):
        return warning(
            check,
            f"others can reach {config.amqp}, where passwords and all messages are plain text",
            "set APPLIANCE_AMQP to an address of 127.0.0.1, and APPLIANCE_AMQPS to the one at "
            "which others are served over TLS",
        )
    also = f"; {config.amqps}, encrypted" if config.amqps else ""
    return ok(check, f"{config.amqp}, for this machine only{also}")


def mqtt(config: Config) -> Diagnosis:
    """Check that passwords of the MQTT door don't cross a network as plain text."""
    check = "MQTT network"
    if not config.takes_mqtt:
        return ok(check, "off")
    if config.mqtt is not None and is_open_to_others(config.mqtt):
        return warning(
            check,
            f"others can reach {config.mqtt}, where passwords and all messages are plain text",
            "let only a private network reach it, or set APPLIANCE_MQTT to an address of 127.0.0.1 "
            "and APPLIANCE_MQTTS to the one at which others are served over TLS",
        )
    plain = f"{config.mqtt}, for this machine only" if config.mqtt else ""
    encrypted = f"{config.mqtts}, encrypted" if config.mqtts else ""
    return ok(check, "; ".join(filter(None, (plain, encrypted))))
