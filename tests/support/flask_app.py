"""The Flask application as the command line puts it together, without a broker."""

import dataclasses
import threading

from appliance.api.app import create_app
from appliance.auth.authorizer import Authorizer
from appliance.auth.principal import ADMINISTRATOR
from appliance.broker.base import BrokerState
from appliance.cli.composition import api_services
from appliance.store import open_store

#: A broker that is not connected.
AWAY = BrokerState(
    connected=False,
    blocked=False,
    accepting=False,
    reason="away",
    depth=None,
    consumers=None,
    checked_seconds_ago=None,
)


def services_of(config, broker=lambda: AWAY, **changes):
    """Return the services with this function for the broker's state, and no supervisor."""
    services = api_services(
        config,
        open_store(config),
        broker,
        lambda _: None,
        mark=lambda _: None,
        stopping=threading.Event(),
        authorizer=Authorizer("t" * 32),
    )
    return dataclasses.replace(services, **{"processes": list, **changes})


def app_of(config, broker=lambda: AWAY, **changes):
    """Return the application with these services, for the administrator where nobody is named."""
    app = create_app(services_of(config, broker, **changes))
    served = app.wsgi_app

    def as_administrator(environ, start_response):
        environ.setdefault("appliance.principal", ADMINISTRATOR)
        return served(environ, start_response)

    app.wsgi_app = as_administrator
    return app
