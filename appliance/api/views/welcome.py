"""The addresses that say what this is: `/`, its icon, and the description of the interface.

They need no token, so they show nothing but the version and what /readyz shows.
"""

import base64
import functools
import hashlib
import re
from importlib import resources
from typing import Final

from flask import Blueprint, Response, render_template, request
from markupsafe import Markup

from appliance.api import openapi
from appliance.api.services import Services
from appliance.api.views import formats, pages
from appliance.api.views.answers import json_answer

#: A host and port as they can stand in an address and on a shell's command line.
_HOST: Final = re.compile(
    r"(?:[a-z0-9.-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::[0-9]{1,5})?", re.ASCII | re.IGNORECASE
)
_LINKS: Final = {"openapi": "/openapi.json", "health": "/healthz", "readiness": "/readyz"}


def blueprint(services: Services) -> Blueprint:
    """Serve `/`, `/favicon.ico` and `/openapi.json`."""
    views = Blueprint("welcome", __name__)
    folder = resources.files("appliance.api") / "templates"
    style, icon = ((folder / name).read_text("utf-8") for name in ("welcome.css", "icon.svg"))
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )

    @functools.lru_cache(maxsize=4)
    def description(server: str) -> bytes:
        return formats.dump(openapi.describe(services.config, services.version, server))

    @views.get("/")
    def show_welcome() -> Response:
        # `*/*`, as curl sends it, gets the first one.
        types = [formats.JSON, "text/html"]
        if request.accept_mimetypes.best_match(types) != "text/html":
            links = {name: pages.address(path) for name, path in _LINKS.items()}
            members = {"name": "Queue Appliance", "version": services.version, "links": links}
            answer = json_answer(members)
        else:
            page = render_template(
                "welcome.html",
                style=Markup(style),  # noqa: S704  # our own file
                version=services.version,
                readiness=services.readiness(),
                address=_address(services.config.http.port),
            )
            answer = Response(page, content_type="text/html; charset=utf-8")
            answer.headers["Content-Security-Policy"] = policy
            answer.headers["Referrer-Policy"] = "no-referrer"
        answer.headers["Vary"] = "Accept"
        return answer

    @views.get("/favicon.ico")
    def show_icon() -> Response:
        return Response(icon, content_type="image/svg+xml")

    @views.get("/openapi.json")
    def show_openapi() -> Response:
        return Response(description(request.script_root or "/"), content_type=formats.JSON)

    return views


def _address(port: int) -> str:
    """Return the address that the browser asked; a local one if the header Host is hostile."""
    host = request.headers.get("Host", "")
    if not _HOST.fullmatch(host):
        return f"http://localhost:{port}"
    return f"{request.scheme}://{host}{request.script_root}"
