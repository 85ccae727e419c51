"""A browser without a window for the console's pages: the Flask application, and who is signed in.

The gate decides on the cookie as for the real thing; nothing is sent over a network.
"""

import dataclasses
import re
import threading

import ready_made
from flask_app import AWAY, new_app

from appliance.auth.authorizer import Authorizer
from appliance.auth.principal import ANONYMOUS
from appliance.cli.composition import api_services
from appliance.store import open_store

TOKEN = "a-token-of-the-administrator"
OWN = {"Sec-Fetch-Site": "same-origin"}


class ConsoleClient:
    """Signs in, opens pages and sends their forms."""

    def __init__(self, config, broker=lambda: AWAY, **changes):
        self.authorizer = Authorizer(TOKEN)
        self.store = open_store(config)
        ready_made.migrate(self.store.path)
        services = api_services(
            config,
            self.store,
            broker,
            lambda _: None,
            stopping=threading.Event(),
            authorizer=self.authorizer,
            mark=lambda _: None,
        )
        self.services = dataclasses.replace(services, **{"processes": list, **changes})
        self.services.refresher.refresh()
        app = new_app(self.services)
        served = app.wsgi_app

        def admitted(environ, start_response):
            cookies = environ.get("HTTP_COOKIE", "").encode("latin-1")
            environ["appliance.principal"] = self.authorizer.session(cookies) or ANONYMOUS
            return served(environ, start_response)

        app.wsgi_app = admitted
        self.app = app
        self.browser = app.test_client()

    def get(self, path, **options):
        return self.browser.get(path, **options)

    def post(self, path, data=None, headers=OWN, **options):
        return self.browser.post(path, data=data or {}, headers=headers, **options)

    def sign_in(self, token=TOKEN, to="/console/"):
        return self.post("/console/login", self.form("/console/login") | {"token": token, "to": to})

    def form(self, path):
        """Return the hidden fields of a page's forms."""
        found = re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', self.get(path).text)
        return dict(found)

    def close(self):
        self.store.reader.close()
