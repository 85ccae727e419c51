"""The interface's description, for programs."""

from flask import Blueprint, Response

from appliance.api.openapi import describe
from appliance.api.services import Services
from appliance.api.views.answers import json_answer


def blueprint(services: Services) -> Blueprint:
    """Serve /openapi.json."""
    views = Blueprint("openapi", __name__)
    description = describe(services.config, services.version)

    @views.get("/openapi.json")
    def show_openapi() -> Response:
        return json_answer(description)

    return views
