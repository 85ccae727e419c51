"""The Flask application as the command line puts it together, without a broker."""

import dataclasses
import threading

from flask import Flask
from jinja2 import BytecodeCache
from jinja2.bccache import Bucket

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


class _Compiled(BytecodeCache):
    """Templates as they were compiled, for all applications of a process of tests."""

    def __init__(self) -> None:
        self._codes: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        if code := self._codes.get(bucket.key):
            bucket.bytecode_from_string(code)

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._codes[bucket.key] = bucket.bytecode_to_string()


_compiled = _Compiled()


def new_app(services) -> Flask:
    """Return the application with these services."""
    app = create_app(services)
    app.jinja_env.bytecode_cache = _compiled
    return app


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
    app = new_app(services_of(config, broker, **changes))
    served = app.wsgi_app

    def as_administrator(environ, start_response):
        environ.setdefault("appliance.principal", ADMINISTRATOR)
        return served(environ, start_response)

    app.wsgi_app = as_administrator
    return app
