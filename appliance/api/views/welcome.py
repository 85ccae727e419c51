"""The addresses that say what this is: `/`, its icon, and the description of the interface.

They need no token, so they show nothing but the version. `/` leads a browser to the console.
"""

import functools
from importlib import resources
from typing import Final

from flask import Blueprint, Response, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from appliance.api import openapi
from appliance.api.services import Services
from appliance.api.views import formats, pages
from appliance.api.views.answers import json_answer

_LINKS: Final = {
    "console": "/console/",
    "openapi": "/openapi.json",
    "health": "/healthz",
    "readiness": "/readyz",
}


def blueprint(services: Services) -> Blueprint:
    """Serve `/`, `/favicon.ico` and `/openapi.json`."""
    views = Blueprint("welcome", __name__)
    icon = (resources.files("appliance.api") / "templates" / "icon.svg").read_text("utf-8")

    @functools.lru_cache(maxsize=4)
    def description(server: str) -> bytes:
        return formats.dump(openapi.describe(services.config, services.version, server))

    @views.get("/")
    def show_welcome() -> AnyResponse:
        # `*/*`, as curl sends it, gets the first one.
        types = [formats.JSON, "text/html"]
        answer: AnyResponse
        if request.accept_mimetypes.best_match(types) != "text/html":
            links = {name: pages.address(path) for name, path in _LINKS.items()}
            members = {"name": "Queue Appliance", "version": services.version, "links": links}
            answer = json_answer(members)
        else:
            answer = redirect(pages.address("/console/"), 303)
        answer.headers["Vary"] = "Accept"
        return answer

    @views.get("/favicon.ico")
    def show_icon() -> Response:
        return Response(icon, content_type="image/svg+xml")

    @views.get("/openapi.json")
    def show_openapi() -> Response:
        return Response(description(request.script_root or "/"), content_type=formats.JSON)

    return views
