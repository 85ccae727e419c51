"""The interface's description, for programs."""

from flask import Blueprint, Response

from appliance.api.openapi import describe
from appliance.api.views.answers import json_answer
from appliance.config import Config


def blueprint(config: Config, version: str) -> Blueprint:
    """Serve /openapi.json."""
    views = Blueprint("openapi", __name__)
    description = describe(config, version)

    @views.get("/openapi.json")
    def show_openapi() -> Response:
        return json_answer(description)

    return views
