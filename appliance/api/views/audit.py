"""The audit trail: what administrators did. The gate lets administrators in only."""

from flask import Blueprint, Response, request

from appliance.api.services import Services
from appliance.api.views import pages, parameters
from appliance.api.views.answers import json_answer
from appliance.store.rows import Span

PARAMETERS = ("after", "before", "limit")


def blueprint(services: Services) -> Blueprint:
    """Serve /v1/audit."""
    views, access = Blueprint("audit", __name__), services.access

    @views.get("/v1/audit")
    def list_audit() -> Response:
        query = parameters.read(request.args.to_dict(flat=False), PARAMETERS)
        span = Span(
            before=parameters.parse_seq_cursor("before", query.get("before")),
            after=parameters.parse_seq_cursor("after", query.get("after")),
        )
        limit = parameters.page_limit(query.get("limit"))
        rows = access.audit(span, limit + 1)
        seqs = [row.seq for row in rows[:limit]]
        return json_answer(
            {
                "audit": [row._asdict() for row in rows[:limit]],
                **pages.cursors(seqs, more=len(rows) > limit, after=span.after, query=query),
            }
        )

    return views
