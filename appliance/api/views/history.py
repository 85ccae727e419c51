"""The history: how each second or minute was. Of all topics together, so it is not for everyone."""

from flask import Blueprint, Response, request

from appliance.api.http import problems
from appliance.api.services import Services
from appliance.api.views import parameters, visible
from appliance.api.views.answers import json_answer, problem_answer
from appliance.history.chronicle import parse_history_span
from appliance.model.timestamps import timestamp


def blueprint(services: Services) -> Blueprint:
    """Serve /v1/history to whoever may read all topics."""
    views = Blueprint("history", __name__)

    @views.get("/v1/history")
    def show_history() -> Response:
        query = parameters.read(request.args.to_dict(flat=False), ("span",))
        span = parse_history_span(query.get("span"))
        if visible.patterns() is not None:
            return problem_answer(
                problems.forbidden("the history tells of all topics; the token may read some")
            )
        found = services.chronicler.of(span)
        return json_answer(
            {
                "since": timestamp(found.since),
                "until": timestamp(found.until),
                "step_seconds": found.step,
                "points": [{**each._asdict(), "at": timestamp(each.at)} for each in found.points],
            }
        )

    return views
