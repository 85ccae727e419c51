"""Subscriptions: make, list, show and remove them."""

from typing import Any, Final

from flask import Blueprint, Response, request

from appliance.api.http import problems
from appliance.api.services import Services
from appliance.api.views import pages, parameters, visible
from appliance.api.views.actors import actor
from appliance.api.views.answers import json_answer, problem_answer
from appliance.api.views.json_body import read_object
from appliance.model import leases
from appliance.operations.subscription_wish import wished
from appliance.store.access_rows import Deed
from appliance.store.subscription_rows import SubscriptionRow

#: Members of the JSON that asks for a subscription.
MEMBERS: Final = {
    "name": str,
    "topics": list,
    "from": str,
    "lease_seconds": int,
    "max_attempts": int,
}


def blueprint(services: Services) -> Blueprint:
    """Serve /v1/subscriptions and /v1/subscriptions/{name}."""
    views, subscriptions = Blueprint("subscriptions", __name__), services.subscriptions

    @views.get("/v1/subscriptions")
    def list_subscriptions() -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        patterns = visible.patterns()
        rows = [row for row in subscriptions.all() if leases.covers(patterns, row.topics)]
        return json_answer({"subscriptions": [_shown(services, row) for row in rows]})

    @views.post("/v1/subscriptions")
    def create_subscription() -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        row, since = wished(read_object(MEMBERS))
        details = f"topics {' '.join(row.topics)}"
        subscriptions.create(row, since, Deed(actor(), "subscription-create", row.name, details))
        answer = json_answer(_shown(services, row), 201)
        answer.headers["Location"] = pages.address(f"/v1/subscriptions/{row.name}")
        return answer

    @views.get("/v1/subscriptions/<name>")
    def show_subscription(name: str) -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        row = readable(services, name)
        return row if isinstance(row, Response) else json_answer(_shown(services, row))

    @views.delete("/v1/subscriptions/<name>")
    def remove_subscription(name: str) -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        if not subscriptions.remove(name, Deed(actor(), "subscription-remove", name)):
            return problem_answer(problems.not_found(f"there is no subscription {name!r}"))
        return Response(status=204)

    return views


def readable(services: Services, name: str) -> SubscriptionRow | Response:
    """Return the subscription, or the answer that there is none, or none for the caller."""
    row = services.subscriptions.find(name)
    if row is None:
        return problem_answer(problems.not_found(f"there is no subscription {name!r}"))
    if not leases.covers(visible.patterns(), row.topics):
        return problem_answer(
            problems.forbidden("the token has no right to read every topic of this subscription")
        )
    return row


def _shown(services: Services, row: SubscriptionRow) -> dict[str, Any]:
    counts = services.subscriptions.counts(row.name)
    return {
        "name": row.name,
        "topics": list(row.topics),
        "lease_seconds": row.lease_seconds,
        "max_attempts": row.most_attempts,
        "created_at": row.created_at,
        **counts._asdict(),
        "acknowledged": row.acknowledged,
        "gone": row.gone,
        "redelivered": row.redelivered,
    }
