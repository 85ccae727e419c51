"""The doors that a drill can try: how its senders use each, and which messages may be doubled."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from appliance.drill.load import MIXED, Style


@dataclass(frozen=True)
class DrilledDoor:
    """One door of a drill."""

    name: str
    #: a word for what was acknowledged, such as `answered 202`
    accepted: str
    #: the styles that its senders take in turn
    styles: Sequence[Style]
    #: those of them whose messages can be stored twice: the door's own promise says no more
    doubling: frozenset[Style] = frozenset()


#: A confirm is for a message with a `message_id` what a 202 is. One without can be doubled if a
#: worker dies between its commit and its acknowledgement. The same is true of MQTT 3.1.1, whose
#: clients also send a message again without a key.
_DOORS: Final = {
    "http": DrilledDoor("http", "answered 202", MIXED),
    "amqp": DrilledDoor("amqp", "confirmed", (Style.KEYED, Style.PLAIN), frozenset({Style.PLAIN})),
    "mqtt": DrilledDoor("mqtt", "acknowledged", (Style.AGAIN,), frozenset({Style.AGAIN})),
}
DRILLED_DOORS: Final = tuple(_DOORS)


def drilled_door(name: str, *, knows_mqtt_5: bool) -> DrilledDoor:
    """Return the door of a drill by its name. With MQTT 5 a message can carry a key."""
    door = _DOORS[name]
    if name == "mqtt" and knows_mqtt_5:
        return replace(door, styles=(Style.AGAIN, Style.KEYED))
    return door
