"""Dead letters: list, read, redrive and discard them."""

import re

from flask import Blueprint, Response, request

from appliance.api.http import problems
from appliance.api.services import Services
from appliance.api.views import formats, pages, parameters, visible
from appliance.api.views.actors import actor
from appliance.api.views.answers import (
    body_answer,
    csv_answer,
    json_answer,
    ndjson_answer,
    problem_answer,
)
from appliance.errors import AmbiguousError, InputError
from appliance.model.ids import is_id
from appliance.operations import letter_batches
from appliance.store.base import DeadLetters
from appliance.store.rows import Choice, Letter

PARAMETERS = ("reason", "topic", "after", "before", "limit", "format", "for")
FORMATS = ("json", "ndjson", "csv")

_MAX_SEQ = 2**63 - 1


def blueprint(services: Services) -> Blueprint:
    """Serve /v1/dead-letters and the addresses below it."""
    views = Blueprint("dead_letters", __name__)
    letters = services.dead_letters

    @views.get("/v1/dead-letters")
    def list_letters() -> Response:
        query = parameters.read(request.args.to_dict(flat=False), PARAMETERS)
        form = parameters.choice("format", query.get("format"), FORMATS)
        for_excel = parameters.for_excel(form, query.get("for"))
        choice = Choice(
            reason=query.get("reason"),
            topic=query.get("topic"),
            patterns=visible.patterns(),
            before=parameters.parse_seq_cursor("before", query.get("before")),
            after=parameters.parse_seq_cursor("after", query.get("after")),
        )
        if form != "json":
            most = parameters.export_limit(query.get("limit"))
            return _export(letters, choice, most, form, for_excel=for_excel)
        return _page(letters, choice, parameters.page_limit(query.get("limit")), query)

    @views.get("/v1/dead-letters/<letter_id>")
    def show_letter(letter_id: str) -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        letter = find_letter(letters, letter_id)
        return _unknown(letter_id) if letter is None else json_answer(formats.letter(letter))

    @views.get("/v1/dead-letters/<letter_id>/body")
    def show_letter_body(letter_id: str) -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        letter = find_letter(letters, letter_id)
        body = None if letter is None else letters.body(letter.seq)
        if letter is None or body is None:
            return _unknown(letter_id)
        return body_answer(body, letter.content_type or "application/octet-stream")

    @views.post("/v1/dead-letters/<letter_id>/redrive")
    def redrive_letter(letter_id: str) -> Response:
        query = parameters.read(request.args.to_dict(flat=False), ("topic", "force"))
        force = parameters.choice("force", query.get("force"), ("false", "true")) == "true"
        letter = find_letter(letters, letter_id)
        if letter is None:
            return _unknown(letter_id)
        message = services.redriver.redrive(letter, query.get("topic"), actor(), force=force)
        answer = json_answer({**message._asdict(), "status": "queued", "seq": letter.seq}, 202)
        answer.headers["Location"] = pages.address(f"/v1/messages/{message.id}")
        return answer

    @views.delete("/v1/dead-letters/<letter_id>")
    def discard_letter(letter_id: str) -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        letter = find_letter(letters, letter_id)
        if letter is None or not _discard(letters, letter):
            return _unknown(letter_id)
        return Response(status=204)

    return views


def _page(letters: DeadLetters, choice: Choice, limit: int, query: dict[str, str]) -> Response:
    page = letters.page(choice, limit)
    seqs = [letter.seq for letter in page.rows]
    return json_answer(
        {
            "dead_letters": [formats.letter(letter) for letter in page.rows],
            "count": letters.count(choice),
            **pages.cursors(seqs, more=page.more, after=choice.after, query=query),
        }
    )


def _export(
    letters: DeadLetters, choice: Choice, limit: int | None, form: str, *, for_excel: bool
) -> Response:
    pieces = letters.pieces(choice, limit)
    if form == "csv":
        table = formats.csv_table(
            pieces, formats.LETTER_COLUMNS, formats.letter_cells, for_excel=for_excel
        )
        return csv_answer(table, "dead-letters")
    return ndjson_answer(formats.ndjson(pieces, formats.letter))


def _discard(letters: DeadLetters, letter: Letter) -> bool:
    return letters.remove(letter, letter_batches.discarding(letter, actor()))


def find_letter(letters: DeadLetters, name: str) -> Letter | None:
    """Return the letter of this `seq`, or the only one of the message with this id.

    None where there is none that the caller may read.
    """
    if re.fullmatch(r"[1-9][0-9]{0,18}", name) and int(name) <= _MAX_SEQ:
        letter = letters.find(int(name))
        return letter if letter is not None and visible.sees(letter.topic) else None
    if not is_id(name):
        raise InputError(
            "name a dead letter by its seq (a number) or by its message's id (a UUID in lower case)"
        )
    seqs = letters.of_message(name, visible.patterns())
    if len(seqs) > 1:
        listed = ", ".join(map(str, seqs[:20])) + (", ..." if len(seqs) > 20 else "")
        raise AmbiguousError(
            f"{len(seqs)} dead letters have this id; name one by its seq: {listed}"
        )
    return letters.find(seqs[0]) if seqs else None


def _unknown(name: str) -> Response:
    return problem_answer(problems.not_found(f"there is no dead letter {name}"))
