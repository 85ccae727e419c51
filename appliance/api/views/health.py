"""Health: open to everyone, so nothing secret is in it."""

from collections.abc import Callable

from flask import Blueprint, Response

from appliance import readiness
from appliance.api.views.answers import json_answer
from appliance.broker.base import BrokerState
from appliance.config import Config
from appliance.store.sqlite.reader import Reader


def blueprint(config: Config, reader: Reader, broker: Callable[[], BrokerState]) -> Blueprint:
    """Serve /healthz (this process answers) and /readyz (a message would be kept and stored)."""
    views = Blueprint("health", __name__)

    @views.get("/healthz")
    def show_health() -> Response:
        return json_answer({"status": "ok"})

    @views.get("/readyz")
    def show_readiness() -> Response:
        found = readiness.assess(config, reader, broker())
        answer = json_answer(
            {"ready": found.ready, "reasons": found.reasons, "checks": found.checks},
            200 if found.ready else 503,
        )
        if not found.ready:
            answer.headers["Retry-After"] = "2"
        return answer

    return views
