"""Deliveries of an endpoint, for administrators: attempts, and the messages that failed so far."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from flask import Blueprint, Response, request

from appliance.api.http import problems
from appliance.api.services import Services
from appliance.api.views import endpoint_formats, pages, parameters
from appliance.api.views.actors import actor
from appliance.api.views.answers import json_answer, problem_answer
from appliance.api.views.endpoints import unknown
from appliance.api.views.json_body import read_object
from appliance.errors import InputError
from appliance.model.ids import is_id
from appliance.store.endpoint_rows import GIVEN_UP, GONE, WAITING
from appliance.store.rows import Span

ATTEMPT_PARAMETERS: Final = ("failed", "message", "after", "before", "limit")
UNDELIVERED_PARAMETERS: Final = ("state", "after", "before", "limit")
#: States of an undelivered message; the first word is any of them.
STATES: Final = ("any", WAITING, GIVEN_UP, GONE)

_MAX_ID: Final = 2**63 - 1


def blueprint(services: Services) -> Blueprint:
    """Serve what was tried of an endpoint, and what is undelivered."""
    views, rows = Blueprint("deliveries", __name__), services.endpoints

    @views.get("/v1/endpoints/<name>/deliveries")
    def list_deliveries(name: str) -> Response:
        query = parameters.read(request.args.to_dict(flat=False), ATTEMPT_PARAMETERS)
        failed = parameters.choice("failed", query.get("failed"), ("false", "true")) == "true"
        message = query.get("message")
        if message is not None and not is_id(message):
            raise InputError("message: expected a message's id, a UUID in lower case")
        limit, span = parameters.page_limit(query.get("limit")), _span(query)
        if rows.find(name) is None:
            return unknown(name)
        found = rows.attempts(span, limit + 1, name=name, message_id=message, failed=failed)
        return _page("deliveries", found, limit, query, span, endpoint_formats.attempt)

    @views.get("/v1/endpoints/<name>/undelivered")
    def list_undelivered(name: str) -> Response:
        query = parameters.read(request.args.to_dict(flat=False), UNDELIVERED_PARAMETERS)
        state = parameters.choice("state", query.get("state"), STATES)
        limit, span = parameters.page_limit(query.get("limit")), _span(query)
        if rows.find(name) is None:
            return unknown(name)
        found = rows.due(name, None if state == "any" else state, span, limit + 1)
        return _page("undelivered", found, limit, query, span, endpoint_formats.undelivered)

    _serve_changes(views, services)
    return views


def _serve_changes(views: Blueprint, services: Services) -> None:
    """Serve what has undelivered messages tried again, or forgotten."""
    rows, desk = services.endpoints, services.endpoint_desk

    @views.post("/v1/endpoints/<name>/redrive")
    def redrive_undelivered(name: str) -> Response:
        ids = _ids()
        if rows.find(name) is None:
            return unknown(name)
        return json_answer({"name": name, "redriven": desk.redrive(name, ids, actor())})

    @views.post("/v1/endpoints/<name>/discard")
    def discard_undelivered(name: str) -> Response:
        ids = _ids()
        if rows.find(name) is None:
            return unknown(name)
        return json_answer({"name": name, "discarded": desk.discard(name, ids, actor())})

    @views.delete("/v1/endpoints/<name>/undelivered/<int:number>")
    def discard_one_undelivered(name: str, number: int) -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        if not 0 < number <= _MAX_ID or not desk.discard(name, [number], actor()):
            return problem_answer(
                problems.not_found(f"there is no undelivered message {number} of {name[:100]}")
            )
        return Response(status=204)


def _ids() -> list[int] | None:
    """Return the ids that the request's body names; None for all. Raises InputError."""
    parameters.read(request.args.to_dict(flat=False), ())
    given = read_object({"ids": list, "all": bool})
    if ("ids" in given) == bool(given.get("all")):
        raise InputError(
            'expected {"ids": [...]} with ids of undelivered messages, or {"all": true}'
        )
    ids: list[int] | None = given.get("ids")
    return ids


def _span(query: dict[str, str]) -> Span:
    return Span(
        before=parameters.parse_seq_cursor("before", query.get("before")),
        after=parameters.parse_seq_cursor("after", query.get("after")),
    )


def _page(
    key: str,
    found: Sequence[Any],
    limit: int,
    query: dict[str, str],
    span: Span,
    shape: Callable[[Any], dict[str, Any]],
) -> Response:
    """Answer with a page of rows, of which one more was read than it has."""
    rows = found[:limit]
    cursors = pages.cursors(
        [row.id for row in rows], more=len(found) > limit, after=span.after, query=query
    )
    return json_answer({key: [shape(row) for row in rows], **cursors})
