"""Delayed messages: those that wait for their time, listed, shown and cancelled."""

from typing import Any

from flask import Blueprint, Response, request

from appliance.api.http import problems
from appliance.api.services import Services
from appliance.api.views import formats, pages, parameters, visible
from appliance.api.views.actors import actor
from appliance.api.views.answers import json_answer, problem_answer
from appliance.errors import InputError
from appliance.model import cursors
from appliance.model.ids import is_id
from appliance.store.access_rows import Deed
from appliance.store.delayed_rows import DelayedRow


def blueprint(services: Services) -> Blueprint:
    """Serve /v1/delayed and the addresses below it."""
    views = Blueprint("delayed", __name__)
    delayed = services.delayed

    @views.get("/v1/delayed")
    def list_delayed() -> Response:
        query = parameters.read(request.args.to_dict(flat=False), ("after", "limit"))
        after = cursors.parse_due_cursor("after", query.get("after"))
        limit = parameters.page_limit(query.get("limit"))
        rows = delayed.page(after, limit + 1, visible.patterns())
        page, more = rows[:limit], len(rows) > limit
        following = cursors.due_cursor(page[-1].due_at, page[-1].seq) if more else None
        return json_answer(
            {
                "delayed": [shown(row) for row in page],
                "next": following,
                "next_url": pages.url({**query, "after": following}) if following else None,
            }
        )

    @views.get("/v1/delayed/<message_id>")
    def show_delayed(message_id: str) -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        row = find(services, message_id)
        return _unknown(message_id) if row is None else json_answer(shown(row))

    @views.delete("/v1/delayed/<message_id>")
    def cancel_delayed(message_id: str) -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        row = find(services, message_id)
        if row is None or not delayed.cancel(row.id, Deed(actor(), "delayed-cancel", row.id)):
            return _unknown(message_id)
        return Response(status=204)

    return views


def find(services: Services, message_id: str) -> DelayedRow | None:
    """Return the message with this id, if it waits and the caller may read it."""
    if not is_id(message_id):
        raise InputError("a message's id is a UUID in lower case, as publishing returned it")
    row = services.delayed.find(message_id)
    return row if row is not None and visible.sees(row.topic) else None


def shown(row: DelayedRow) -> dict[str, Any]:
    """Return a delayed message as the API shows it, without its body."""
    return {
        "id": row.id,
        "topic": row.topic,
        "accepted_at": row.accepted_at,
        "due_at": row.due_at,
        "bytes": row.bytes,
        "content_type": row.content_type,
        "meta": formats.meta(row.meta),
        "status": "delayed",
    }


def _unknown(message_id: str) -> Response:
    return problem_answer(
        problems.not_found(
            f"no message {message_id} waits for its time, or not yet; GET /v1/messages/ID says "
            "whether it is stored",
            problems.RETRY_MESSAGE_SECONDS,
        )
    )
