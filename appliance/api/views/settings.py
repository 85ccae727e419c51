"""The settings in force, as `appliance config` shows them: no secret. For administrators."""

from flask import Blueprint, Response, request

from appliance.api.services import Services
from appliance.api.views import parameters
from appliance.api.views.answers import json_answer


def blueprint(services: Services) -> Blueprint:
    """Serve /v1/settings."""
    views = Blueprint("settings", __name__)

    @views.get("/v1/settings")
    def list_settings() -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        rows = services.operations.settings()
        return json_answer(
            {
                "settings": [
                    {
                        "name": row.name,
                        "value": row.value,
                        "text": row.text,
                        "source": row.source,
                        "default": row.default,
                        "secret": row.secret,
                        "help": row.help,
                    }
                    for row in rows
                ]
            }
        )

    return views
