"""Handlers: which functions get the messages of which topics, and what waits for each.

The gate lets administrators in only.
"""

from typing import Final

from flask import Blueprint, Response, request

from appliance.api.services import Services
from appliance.api.views import formats, parameters, visible
from appliance.api.views.answers import json_answer
from appliance.model.handler_outcomes import result_ids
from appliance.operations.handler_overview import handler_overview
from appliance.store.handler_rows import HandledMessage, WaitingState

#: Ids of results that are listed.
_MOST_IDS: Final = 1000


def blueprint(services: Services) -> Blueprint:
    """Serve /v1/handlers."""
    views = Blueprint("handlers", __name__)

    @views.get("/v1/handlers")
    def list_handlers() -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        overview = handler_overview(services.config, services.handling)
        found = [
            {
                **each.backlog._asdict(),
                "topics": each.topics,
                **each.counts,
            }
            for each in overview.handlers
        ]
        return json_answer(
            {"handlers": found, "processes": overview.processes, "trouble": overview.trouble}
        )

    return views


def find(services: Services, message_id: str) -> dict[str, object] | None:
    """Return a message that waits for its handler, or was handled, if the caller may read it.

    One of which a row has the id is found by that.
    """
    waiting = services.handling.waiting(message_id)
    if waiting is not None:
        return _waiting(waiting) if visible.sees(waiting.topic) else None
    handled = services.handling.handled(message_id)
    return _handled(handled) if handled is not None and visible.sees(handled.topic) else None


def _waiting(row: WaitingState) -> dict[str, object]:
    return {
        "id": row.id,
        "topic": row.topic,
        "received_at": row.received_at,
        "bytes": row.bytes,
        "content_type": row.content_type,
        "meta": formats.meta(row.meta),
        "attempts": row.attempts,
        "status": "waiting",
    }


def _handled(row: HandledMessage) -> dict[str, object]:
    return {
        "id": row.id,
        "topic": row.topic,
        "handled_at": row.handled_at,
        "outcome": row.outcome,
        "results": row.results,
        "result_ids": result_ids(row.id, min(row.results, _MOST_IDS)),
        "status": "handled",
    }
