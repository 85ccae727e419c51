"""Messages that a subscription has given up: list them, hand them out again, forget them."""

from typing import Any, Final

from flask import Blueprint, Response, request

from appliance.api.services import Services
from appliance.api.views import formats, pages, parameters
from appliance.api.views.actors import actor
from appliance.api.views.answers import json_answer
from appliance.api.views.json_body import read_object
from appliance.api.views.subscriptions import readable
from appliance.errors import InputError
from appliance.model import timestamps
from appliance.store.access_rows import Deed
from appliance.store.subscription_rows import DeadMessage

#: Messages that one request can name.
_MOST_IDS: Final = 1000
_MEMBERS: Final = {"ids": list, "all": bool}


def blueprint(services: Services) -> Blueprint:
    """Serve /v1/subscriptions/{name}/dead-letters."""
    views, subscriptions = Blueprint("given_up", __name__), services.subscriptions

    @views.get("/v1/subscriptions/<name>/dead-letters")
    def list_given_up(name: str) -> Response:
        query = parameters.read(request.args.to_dict(flat=False), ("after", "limit"))
        row = readable(services, name)
        if isinstance(row, Response):
            return row
        after = parameters.parse_seq_cursor("after", query.get("after")) or 0
        page = subscriptions.dead(name, after, parameters.page_limit(query.get("limit")))
        following = parameters.seq_cursor(page.rows[-1].seq) if page.more else None
        return json_answer(
            {
                "dead_letters": [_dead(each) for each in page.rows],
                "next": following,
                "next_url": pages.url({**query, "after": following}) if following else None,
            }
        )

    @views.post("/v1/subscriptions/<name>/dead-letters/redrive")
    def redrive_given_up(name: str) -> Response:
        ids, row = _ids(), readable(services, name)
        if isinstance(row, Response):
            return row
        done = subscriptions.redrive(
            name, ids, Deed(actor(), "subscription-redrive", name, _named(ids))
        )
        return json_answer({"redriven": done, "left": subscriptions.counts(name).dead})

    @views.post("/v1/subscriptions/<name>/dead-letters/discard")
    def discard_given_up(name: str) -> Response:
        ids, row = _ids(), readable(services, name)
        if isinstance(row, Response):
            return row
        done = subscriptions.discard(
            name, ids, Deed(actor(), "subscription-discard", name, _named(ids))
        )
        return json_answer({"discarded": done, "left": subscriptions.counts(name).dead})

    return views


def _ids() -> list[str] | None:
    """Return the ids of the messages that the request means; None: all. Raises InputError."""
    parameters.read(request.args.to_dict(flat=False), ())
    asked: dict[str, Any] = read_object(_MEMBERS)
    ids = asked.get("ids")
    if (ids is None) is not (asked.get("all") is True):
        raise InputError('expected {"ids": [...]}, with the ids of messages, or {"all": true}')
    if ids is None:
        return None
    if len(ids) > _MOST_IDS or not all(isinstance(each, str) for each in ids):
        raise InputError(f"ids: expected the ids of {_MOST_IDS} messages at most")
    return [each.encode(errors="replace").decode() for each in ids]


def _named(ids: list[str] | None) -> str:
    return "all" if ids is None else f"{len(ids)} named"


def _dead(row: DeadMessage) -> dict[str, object]:
    return {
        **formats.message(row.message),
        "attempts": row.attempts,
        "dead_at": timestamps.timestamp(row.dead_at),
        "reason": row.reason,
    }
