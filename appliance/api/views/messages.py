"""One message: its state, and its bytes as they came."""

from flask import Blueprint, Response, request

from appliance.api import formats, problems, query
from appliance.api.answers import json_answer, problem_answer
from appliance.errors import InputError
from appliance.messages import is_id
from appliance.store.reader import DeadRow, Reader, Row


def blueprint(reader: Reader) -> Blueprint:
    """Serve what `reader` finds."""
    views = Blueprint("messages", __name__)

    @views.get("/v1/messages/<message_id>")
    def show_message(message_id: str) -> Response:
        found = _find(reader, message_id)
        if found is None:
            return _unknown(message_id)
        if isinstance(found, DeadRow):
            return json_answer(formats.dead_letter(found) | {"status": "dead"})
        return json_answer(formats.message(found) | {"status": "stored"})

    @views.get("/v1/messages/<message_id>/body")
    def show_body(message_id: str) -> Response:
        found = _find(reader, message_id)
        if found is None:
            return _unknown(message_id)
        is_text = isinstance(found, Row) and found.text
        kind = "text/plain; charset=utf-8" if is_text else "application/octet-stream"
        return Response(found.body, content_type=kind)

    return views


def _find(reader: Reader, message_id: str) -> Row | DeadRow | None:
    query.parameters(request.args.to_dict(flat=False), ())
    if not is_id(message_id):
        raise InputError("a message's id is a UUID in lower case, as publishing answered it")
    return reader.message(message_id)


def _unknown(message_id: str) -> Response:
    """Answer for an id that is not stored: there is no list of what is still under way."""
    return problem_answer(
        problems.not_found(
            f"no message {message_id} is stored (yet)", problems.RETRY_MESSAGE_SECONDS
        )
    )
