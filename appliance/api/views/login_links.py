"""Links that sign a browser in to the console once, for whoever has a token."""

from flask import Blueprint, Response, g, request

from appliance.api.services import Services
from appliance.api.views import pages, parameters
from appliance.api.views.answers import json_answer
from appliance.auth.sign_in import LINK_SECONDS


def blueprint(services: Services) -> Blueprint:
    """Serve /v1/login-links."""
    views = Blueprint("login_links", __name__)

    @views.post("/v1/login-links")
    def create_login_link() -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        code = services.sign_in.make_link(g.principal)
        path = pages.address("/console/")
        return json_answer({"path": f"{path}#login={code}", "seconds": LINK_SECONDS}, 201)

    return views
