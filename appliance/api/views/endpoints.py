"""Endpoints, for administrators: make, list, change, pause, resume, rotate and remove them.

The secret that messages are signed with is shown once, by the call that makes it.
"""

from collections.abc import Callable
from typing import Any, Final

from flask import Blueprint, Response, request

from appliance.api.http import problems
from appliance.api.services import Services
from appliance.api.views import endpoint_formats, pages, parameters
from appliance.api.views.actors import actor
from appliance.api.views.answers import json_answer, problem_answer
from appliance.api.views.json_body import read_object
from appliance.operations.endpoint_desk import OLD_FOR
from appliance.store.endpoint_rows import EndpointRow

#: Members of the JSON that changes an endpoint.
CHANGES: Final = {
    "url": str, "topics": list, "where": list, "settings": dict, "own_headers": dict,
}  # fmt: skip
#: Members of the JSON that makes one. `from` is a word or a number.
MEMBERS: Final = {"name": str, **CHANGES, "from": object, "secret": str}


def blueprint(services: Services) -> Blueprint:
    """Serve /v1/endpoints and the addresses of each endpoint."""
    views = Blueprint("endpoints", __name__)
    rows, desk = services.endpoints, services.endpoint_desk

    @views.get("/v1/endpoints")
    def list_endpoints() -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        return json_answer({"endpoints": [_shown(services, each) for each in rows.all()]})

    @views.post("/v1/endpoints")
    def create_endpoint() -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        wish = read_object(MEMBERS)
        made, secret = desk.create(wish.pop("name", ""), wish, actor())
        answer = json_answer({**_shown(services, made), "secret": secret}, 201)
        answer.headers["Location"] = pages.address(f"/v1/endpoints/{made.name}")
        return answer

    @views.get("/v1/endpoints/<name>")
    def show_endpoint(name: str) -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        return _about(services, name)

    @views.patch("/v1/endpoints/<name>")
    def change_endpoint(name: str) -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        wish, endpoint = read_object(CHANGES), rows.find(name)
        changed = None if endpoint is None else desk.change(endpoint, wish, actor())
        return unknown(name) if changed is None else json_answer(_shown(services, changed))

    @views.delete("/v1/endpoints/<name>")
    def remove_endpoint(name: str) -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        return Response(status=204) if desk.remove(name, actor()) else unknown(name)

    _serve_state(views, services)
    return views


def _serve_state(views: Blueprint, services: Services) -> None:
    """Serve what pauses and resumes an endpoint, and what changes its secrets."""
    desk = services.endpoint_desk

    def steer(name: str, act: Callable[[], bool]) -> Response:
        return _about(services, name) if act() else unknown(name)

    @views.post("/v1/endpoints/<name>/pause")
    def pause_endpoint(name: str) -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        reason = read_object({"reason": str}).get("reason", "")
        return steer(name, lambda: desk.pause(name, reason, actor()))

    @views.post("/v1/endpoints/<name>/resume")
    def resume_endpoint(name: str) -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        read_object({})
        return steer(name, lambda: desk.resume(name, actor()))

    @views.post("/v1/endpoints/<name>/test")
    def test_endpoint(name: str) -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        read_object({})
        tried = desk.test(name, actor())
        if tried is None:
            return unknown(name)
        return json_answer({"ok": not tried.error, **tried._asdict(), "error": tried.error or None})

    @views.post("/v1/endpoints/<name>/rotate")
    def rotate_endpoint(name: str) -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        given = read_object({"secret": str, "old_for": str})
        made = desk.rotate(name, actor(), given.get("secret"), given.get("old_for", OLD_FOR))
        return unknown(name) if made is None else json_answer({"name": name, **made._asdict()})

    @views.delete("/v1/endpoints/<name>/secrets/<int:number>")
    def remove_endpoint_secret(name: str, number: int) -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        if not desk.remove_secret(name, number, actor()):
            return problem_answer(
                problems.not_found(f"there is no secret {number} of an endpoint {name[:100]}")
            )
        return Response(status=204)


def unknown(name: str) -> Response:
    """Answer that there is no such endpoint."""
    return problem_answer(problems.not_found(f"there is no endpoint {name[:100]}"))


def _about(services: Services, name: str) -> Response:
    endpoint = services.endpoints.find(name)
    return unknown(name) if endpoint is None else json_answer(_shown(services, endpoint))


def _shown(services: Services, endpoint: EndpointRow) -> dict[str, Any]:
    """Return what can be shown of an endpoint: no secret, and of its own headers the names."""
    return endpoint_formats.endpoint(endpoint, services.endpoints.backlog(endpoint))
