"""Connect: recipes for senders, with the address of this machine filled in."""

import functools
import json
from importlib import resources
from typing import Any, Final

from flask import Blueprint, render_template

from appliance.console.parts import ConsoleParts
from appliance.console.rights import needs
from appliance.console.shell import own_url

#: Addresses in the recipes that stand for this machine's own.
_STAND_INS: Final = ("https://inbox.example.com", "http://127.0.0.1:8080")


def add(views: Blueprint, parts: ConsoleParts) -> None:
    """Serve /console/connect."""

    @views.get("/connect")
    @needs(None)
    def show_connect() -> str:
        url = own_url(parts.config.http.port)

        def filled(text: str) -> str:
            for address in _STAND_INS:
                text = text.replace(address, url)
            return text

        return render_template("console/connect.html", recipes=_recipes(), filled=filled)


@functools.cache
def _recipes() -> list[dict[str, Any]]:
    """Return the recipes of docs/send.md, as tools/connect_recipes.py wrote them."""
    text = (resources.files("appliance.console") / "recipes.json").read_text("utf-8")
    found: list[dict[str, Any]] = json.loads(text)
    return found
