"""The check of the whole database, made in the background. The gate lets administrators in only."""

from flask import Blueprint, Response, request

from appliance.api.services import Services
from appliance.api.views import pages, parameters
from appliance.api.views.actors import actor
from appliance.api.views.answers import json_answer
from appliance.store.access_rows import Deed


def blueprint(services: Services) -> Blueprint:
    """Serve /v1/verify: begin the check, and see how far it is and how it ended last."""
    views, chore = Blueprint("verify", __name__), services.operations.verify

    @views.get("/v1/verify")
    def show_verification() -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        return json_answer(chore.state())

    @views.post("/v1/verify")
    def begin_verification() -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        if begun := chore.begin(actor().name):
            services.access.record(Deed(actor(), "verify", "database"))
        answer = json_answer({"begun": begun, **chore.state()}, 202)
        answer.headers["Location"] = pages.address("/v1/verify")
        return answer

    return views
