"""One message: its state, and its bytes as they came."""

from flask import Blueprint, Response, request

from appliance.api.http import problems
from appliance.api.views import formats, parameters
from appliance.api.views.answers import json_answer, problem_answer
from appliance.errors import InputError
from appliance.model.messages import is_id
from appliance.store.sqlite.dead_letters import DeadLetters, Letter
from appliance.store.sqlite.reader import Reader, Row


def blueprint(reader: Reader, letters: DeadLetters) -> Blueprint:
    """Serve what `reader` finds, or else `letters`."""
    views = Blueprint("messages", __name__)

    @views.get("/v1/messages/<message_id>")
    def show_message(message_id: str) -> Response:
        found = _find(reader, letters, message_id)
        if found is None:
            return _unknown(message_id)
        if isinstance(found, Letter):
            return json_answer(formats.letter(found) | {"status": "dead"})
        return json_answer(formats.message(found) | {"status": "stored"})

    @views.get("/v1/messages/<message_id>/body")
    def show_body(message_id: str) -> Response:
        found = _find(reader, letters, message_id)
        if found is None:
            return _unknown(message_id)
        if isinstance(found, Letter):
            body = letters.body(found.seq)
            return Response(body or b"", content_type="application/octet-stream")
        kind = "text/plain; charset=utf-8" if found.text else "application/octet-stream"
        return Response(found.body, content_type=kind)

    return views


def _find(reader: Reader, letters: DeadLetters, message_id: str) -> Row | Letter | None:
    """Return the message, or the newest dead letter that has its id."""
    parameters.parameters(request.args.to_dict(flat=False), ())
    if not is_id(message_id):
        raise InputError("a message's id is a UUID in lower case, as publishing answered it")
    found = reader.message(message_id)
    if found is not None:
        return found
    seqs = letters.of_message(message_id)
    return letters.find(seqs[-1]) if seqs else None


def _unknown(message_id: str) -> Response:
    """Answer for an id that is not stored: there is no list of what is still under way."""
    return problem_answer(
        problems.not_found(
            f"no message {message_id} is stored (yet)", problems.RETRY_MESSAGE_SECONDS
        )
    )
