"""Dead letters sent again many at once, with a result for each of them."""

import functools
from typing import Any, Final

import orjson
from flask import Blueprint, Response, request

from appliance.api.http import problems
from appliance.api.services import Services
from appliance.api.views import parameters, visible
from appliance.api.views.actors import actor
from appliance.api.views.answers import json_answer
from appliance.api.views.dead_letters import find_letter
from appliance.api.views.json_body import read_object
from appliance.errors import InputError
from appliance.operations.letter_batches import MOST_LETTERS, LetterResult, redrive_each
from appliance.store.rows import Choice

#: Members of the JSON that asks for it.
MEMBERS: Final = {"ids": list, "reason": str, "after": str, "topic": str, "force": bool}


def blueprint(services: Services) -> Blueprint:
    """Serve /v1/dead-letters/redrive."""
    views = Blueprint("dead_letter_batch", __name__)

    @views.post("/v1/dead-letters/redrive")
    def redrive_letters() -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        asked = read_object(MEMBERS)
        if ("ids" in asked) == ("reason" in asked):
            raise InputError("name the letters by `ids`, or all of one `reason`: one of the two")
        following = None
        if "ids" in asked:
            if "after" in asked:
                raise InputError("after: goes with `reason` only")
            names = _names(asked["ids"])
        else:
            names, following = _of_reason(services, asked["reason"], asked.get("after"))
        results = redrive_each(
            services.redriver,
            names,
            functools.partial(find_letter, services.dead_letters),
            actor(),
            topic=asked.get("topic"),
            force=asked.get("force", False),
        )
        return json_answer(
            {
                "results": [_shown(result) for result in results],
                "queued": sum(result.outcome == "queued" for result in results),
                "next": following,
            }
        )

    return views


def _of_reason(services: Services, reason: str, after: str | None) -> tuple[list[str], str | None]:
    """Return the names of the oldest letters of a reason, and the cursor to go on after them."""
    choice = Choice(
        reason=reason,
        patterns=visible.patterns(),
        after=parameters.parse_seq_cursor("after", "0" if after is None else after),
    )
    page = services.dead_letters.page(choice, MOST_LETTERS)
    following = parameters.seq_cursor(page.rows[-1].seq) if page.more and page.rows else None
    return [str(letter.seq) for letter in page.rows], following


def _names(ids: list[Any]) -> list[str]:
    if not 1 <= len(ids) <= MOST_LETTERS:
        raise InputError(f"ids: expected 1 to {MOST_LETTERS} of them")
    if not all(isinstance(each, (str, int)) and not isinstance(each, bool) for each in ids):
        raise InputError("ids: expected a list of numbers (`seq`) or of messages' ids")
    return [str(each) for each in ids]


def _shown(result: LetterResult) -> dict[str, Any]:
    seq = result.letter.seq if result.letter is not None else None
    shown: dict[str, Any] = {"letter": result.name, "seq": seq, "outcome": result.outcome}
    if result.message is not None:
        shown["message"] = result.message._asdict()
    if result.error is not None:
        shown["problem"] = orjson.loads(problems.of(result.error).encode())
    return shown
