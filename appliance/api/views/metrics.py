"""Metrics for Prometheus."""

from flask import Blueprint, Response, request

from appliance.api import scrape
from appliance.api.http import problems
from appliance.api.services import Services
from appliance.api.views import parameters, visible
from appliance.api.views.answers import problem_answer
from appliance.metrics import exposition


def blueprint(services: Services) -> Blueprint:
    """Serve /metrics: numbers of all topics together, so whoever asks must be able to read all."""
    views = Blueprint("metrics", __name__)

    @views.get("/metrics")
    def show_metrics() -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        if visible.patterns() is not None:
            return problem_answer(
                problems.forbidden("metrics tell of all topics; the token may read some")
            )
        return Response(
            exposition.text(scrape.samples(services)), content_type=exposition.CONTENT_TYPE
        )

    return views
