"""Makes the load of a drill: clients of the door, under a user of their own at the broker."""

from typing import Final

from appliance.broker.node import control
from appliance.broker.publish.outside_client import OutsideClient
from appliance.config import Address
from appliance.drill.door_load import DoorLink, DoorLoad
from appliance.drill.drill import Plan
from appliance.drill.journal import Journal
from appliance.drill.load import ANSWER_SECONDS, Load, Style
from appliance.drill.mqtt_link import MqttLink
from appliance.drill.scratch import Scratch
from appliance.errors import ApplianceError

#: The topics of a drill begin so, and its users are named so.
_NAME: Final = "drill"


def load(plan: Plan, scratch: Scratch, journal: Journal) -> Load:
    """Return the load of a scratch appliance that runs. Raises NodeError."""
    door, config = plan.door, scratch.config
    if door.name == "http":
        return Load(
            scratch.url, scratch.token, _NAME,
            senders=plan.connections, rate=plan.rate, journal=journal, styles=door.styles,
        )  # fmt: skip
    _, password = control.create_user(config, _NAME, door=door.name)
    amqp = Address(config.amqp.host, control.listens(config))

    def open_link(style: Style) -> DoorLink:
        if door.name == "amqp":
            return OutsideClient(amqp, _NAME, password, timeout=ANSWER_SECONDS)
        if config.mqtt is None:
            raise ApplianceError("the scratch appliance has no MQTT door")
        version = 5 if style is Style.KEYED else 4
        return MqttLink(config.mqtt, _NAME, password, version=version, timeout=ANSWER_SECONDS)

    return DoorLoad(
        open_link, _NAME,
        senders=plan.connections, rate=plan.rate, journal=journal, styles=door.styles,
    )  # fmt: skip
