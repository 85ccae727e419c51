"""The doors: where each listens, whether it is open, and its promises.

The gate lets administrators in only.
"""

from flask import Blueprint, Response, request

from appliance.api.services import Services
from appliance.api.views import parameters
from appliance.api.views.answers import json_answer
from appliance.config import Address, Config
from appliance.machine import ports
from appliance.model.doors import DOORS


def blueprint(services: Services) -> Blueprint:
    """Serve /v1/doors."""
    views = Blueprint("doors", __name__)

    @views.get("/v1/doors")
    def list_doors() -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        where, is_open = _addresses(services.config), _open(services)
        return json_answer(
            {
                "doors": [
                    {
                        "name": door.name,
                        "where": _text(where[door.name]),
                        "reach": _reach(where[door.name]),
                        "open": is_open[door.name],
                        "acknowledgement": door.acknowledgement,
                        "doubled": door.doubled,
                        "lost": door.lost,
                    }
                    for door in DOORS
                ]
            }
        )

    return views


def _addresses(config: Config) -> dict[str, Address | None]:
    """Return where each door listens; None for one that is off, or an outside broker's to know."""
    amqp = None if config.broker_urls else config.amqps or config.amqp
    http, mqtt = config.http, config.mqtts or config.mqtt
    return {"http": http, "inbox": http, "amqp": amqp, "drain": amqp, "mqtt": mqtt}


def _open(services: Services) -> dict[str, bool]:
    """Return whether a sender could use each door now."""
    return {
        "http": True,  # this answer comes through it
        "inbox": any(inbox.addresses for inbox in services.access.inboxes()),
        "amqp": services.broker().accepting,
        "drain": bool(services.config.drain) and services.broker().accepting,
        "mqtt": services.config.takes_mqtt and services.broker().accepting,
    }


def _text(address: Address | None) -> str | None:
    return None if address is None else str(address)


def _reach(address: Address | None) -> str | None:
    """Return who can reach what listens there."""
    if address is None:
        return None
    return "network" if ports.is_open_to_others(address) else "machine"
