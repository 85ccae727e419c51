"""Deletions of messages, for administrators: ask for one, see how far it has come."""

from typing import Any

from flask import Blueprint, Response, request

from appliance.api.http import problems
from appliance.api.services import Services
from appliance.api.views import pages, parameters
from appliance.api.views.actors import actor
from appliance.api.views.answers import json_answer, problem_answer
from appliance.errors import InputError
from appliance.model.ids import is_id
from appliance.model.topics import check_topic
from appliance.store.deletion_rows import DeletionRow, Selection
from appliance.store.filters import KINDS


def blueprint(services: Services) -> Blueprint:
    """Serve the DELETE of messages, and /v1/deletions."""
    views = Blueprint("deletions", __name__)
    desk = services.deletions

    @views.delete("/v1/messages/<message_id>")
    def delete_message(message_id: str) -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        if not is_id(message_id):
            raise InputError("a message's id is a UUID in lower case, as publishing returned it")
        if services.reader.message(message_id) is None:
            return problem_answer(
                problems.not_found(
                    f"no message {message_id} is stored, or not yet",
                    problems.RETRY_MESSAGE_SECONDS,
                )
            )
        return _accepted(desk.ask(Selection(id=message_id), actor()))

    @views.delete("/v1/topics/<topic>/messages")
    def delete_messages(topic: str) -> Response:
        names = ("since", "until", "kind", "dry-run")
        query = parameters.read(request.args.to_dict(flat=False), names, ("where",))
        texts = request.args.getlist("where")
        selection = Selection(
            topic=check_topic(topic),
            since=parameters.moment("since", query.get("since")),
            until=parameters.moment("until", query.get("until")),
            kind=parameters.kind(query.get("kind"), KINDS),
            where=tuple(map(str, parameters.where(texts))),
        )
        dry = parameters.choice("dry-run", query.get("dry-run"), ("false", "true")) == "true"
        if not services.reader.has_topic(topic):
            return problem_answer(
                problems.not_found(
                    f"the topic {topic} has never had a message, or was deleted",
                    problems.RETRY_MESSAGE_SECONDS,
                )
            )
        if dry:
            counted = desk.count(selection)
            return json_answer({"messages": counted.messages, "complete": counted.is_complete})
        return _accepted(desk.ask(selection, actor()))

    @views.get("/v1/deletions")
    def list_deletions() -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        return json_answer({"deletions": [*map(_shown, desk.newest())]})

    @views.get("/v1/deletions/<deletion_id>")
    def show_deletion(deletion_id: str) -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        row = desk.find(deletion_id) if is_id(deletion_id) else None
        if row is None:
            return problem_answer(problems.not_found(f"there is no deletion {deletion_id}"))
        return json_answer(_shown(row))

    return views


def _accepted(row: DeletionRow) -> Response:
    answer = json_answer(_shown(row), 202)
    answer.headers["Location"] = pages.address(f"/v1/deletions/{row.id}")
    return answer


def _shown(row: DeletionRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "status": row.status,
        "selection": row.selection.members(),
        "asked_at": row.asked_at,
        "ended_at": row.ended_at,
        "who": row.by.name,
        "address": row.by.address,
        "messages": row.messages,
        "bytes": row.bytes,
        "kept": row.kept,
    }
