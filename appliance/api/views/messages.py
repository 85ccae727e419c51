"""Messages of all topics, and one message: its state, and its bytes as they came."""

from flask import Blueprint, Response, request

from appliance.api.http import problems
from appliance.api.services import Services
from appliance.api.views import delayed, formats, handlers, parameters, searches, visible
from appliance.api.views.answers import body_answer, json_answer, problem_answer
from appliance.errors import InputError
from appliance.model.ids import is_id
from appliance.store.rows import Letter, StoredMessage


def blueprint(services: Services) -> Blueprint:
    """Serve /v1/messages, and one of them and its body, stored or a dead letter."""
    views = Blueprint("messages", __name__)

    @views.get("/v1/messages")
    def list_all_messages() -> Response:
        return searches.read().answer(services.reader)()

    @views.get("/v1/messages/<message_id>")
    def show_message(message_id: str) -> Response:
        row = _find(services, message_id)
        if row is None:
            waiting = delayed.find(services, message_id)
            if waiting is not None:
                return json_answer(delayed.shown(waiting))
            in_hand = handlers.find(services, message_id)
            if in_hand is not None:
                return json_answer(in_hand)
            return _unknown(message_id)
        if isinstance(row, Letter):
            return json_answer(formats.letter(row) | {"status": "dead"})
        return json_answer(formats.message(row) | {"status": "stored"})

    @views.get("/v1/messages/<message_id>/body")
    def show_body(message_id: str) -> Response:
        row = _find(services, message_id)
        if row is None:
            return _unknown(message_id)
        if isinstance(row, Letter):
            body = services.dead_letters.body(row.seq) or b""
            return body_answer(body, row.content_type or "application/octet-stream")
        media_type = "text/plain; charset=utf-8" if row.text else "application/octet-stream"
        return body_answer(row.body, row.content_type or media_type)

    return views


def _find(services: Services, message_id: str) -> StoredMessage | Letter | None:
    """Return the message, or the newest dead letter that has its id, if the caller may read it."""
    parameters.read(request.args.to_dict(flat=False), ())
    if not is_id(message_id):
        raise InputError("a message's id is a UUID in lower case, as publishing returned it")
    row = services.reader.message(message_id)
    if row is not None and visible.sees(row.topic):
        return row
    seqs = services.dead_letters.of_message(message_id, visible.patterns())
    return services.dead_letters.find(seqs[-1]) if seqs else None


def _unknown(message_id: str) -> Response:
    """Answer for an id that is not stored; no list says whether its message is still under way."""
    return problem_answer(
        problems.not_found(
            f"no message {message_id} is stored, or not yet", problems.RETRY_MESSAGE_SECONDS
        )
    )
