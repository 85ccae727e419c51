"""One message on its own page, its bytes to be saved, and two messages compared."""

from typing import Final

from flask import Blueprint, Response, render_template, request

from appliance.auth.principal import Right
from appliance.console.comparison import compare
from appliance.console.message_facts import facts_of, find_message
from appliance.console.page_errors import PageError
from appliance.console.parts import ConsoleParts
from appliance.console.rights import principal
from appliance.store.endpoint_rows import AttemptRow
from appliance.store.rows import Span

#: End of the name of a file, by what the bytes are.
_ENDS: Final = {True: "txt", False: "bin"}
#: Attempts to deliver it that are shown.
_ATTEMPTS: Final = 20


def add(views: Blueprint, parts: ConsoleParts) -> None:
    """Serve /console/messages/{id}, its body, and /console/compare."""

    @views.get("/messages/<message_id>")
    def show_message(message_id: str) -> str:
        message = find_message(parts, message_id)
        at = request.args.get("at", "")
        begin = int(at) if at.isascii() and at.isdigit() and len(at) < 12 else 0
        facts = facts_of(parts, message, request.args.get("view", ""), begin)
        return render_template(
            "console/message.html", facts=facts, attempts=_attempts(parts, message_id)
        )

    @views.get("/messages/<message_id>/body")
    def save_body(message_id: str) -> Response:
        """Answer with the bytes, for a browser to save and never to open.

        A page that a stranger sent would be a script of ours otherwise.
        """
        facts = facts_of(parts, find_message(parts, message_id), "sql")
        answer = Response(facts.body, content_type="application/octet-stream")
        name = f"{facts.message.id}.{_ENDS[facts.is_text]}"
        answer.headers["Content-Disposition"] = f'attachment; filename="{name}"'
        answer.headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
        return answer

    @views.get("/compare")
    def show_comparison() -> str:
        ids = request.args.getlist("id") or [request.args.get("a", ""), request.args.get("b", "")]
        if len(ids) != 2:
            raise PageError(400, "Mark two messages of a list to compare them.")
        one, other = (find_message(parts, each) for each in ids)
        result = compare(one.body or b"", other.body or b"")
        return render_template("console/compare.html", one=one, other=other, result=result)


def _attempts(parts: ConsoleParts, message_id: str) -> list[tuple[str, AttemptRow]]:
    """Return the last attempts to deliver a message, each with the name of its endpoint."""
    if not principal().may(Right.ADMIN):
        return []
    names = {each.id: each.name for each in parts.endpoints.all()}
    found = parts.endpoints.attempts(Span(), _ATTEMPTS, message_id=message_id) if names else []
    return [(names[each.endpoint], each) for each in found if each.endpoint in names]
