"""Health: open to everyone, so nothing secret is in it."""

from flask import Blueprint, Response

from appliance.api.services import Services
from appliance.api.views.answers import json_answer
from appliance.readiness import Readiness

#: Seconds after which a client can ask again whether the appliance is ready.
_RETRY_SECONDS = 2


def blueprint(services: Services) -> Blueprint:
    """Serve /healthz (this process answers) and /readyz (a message would be kept and stored).

    /readyz/intake says only whether a message would be kept.
    """
    views = Blueprint("health", __name__)

    @views.get("/healthz")
    def show_health() -> Response:
        return json_answer({"status": "ok"})

    @views.get("/readyz")
    def show_readiness() -> Response:
        return _answer(services.readiness())

    @views.get("/readyz/intake")
    def show_intake_readiness() -> Response:
        return _answer(services.intake_readiness())

    return views


def _answer(readiness: Readiness) -> Response:
    answer = json_answer(
        {"ready": readiness.ready, "reasons": readiness.reasons, "checks": readiness.checks},
        200 if readiness.ready else 503,
    )
    if not readiness.ready:
        answer.headers["Retry-After"] = str(_RETRY_SECONDS)
    return answer
