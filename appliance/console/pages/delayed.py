"""Messages that wait for their time: the soonest due first, each to be cancelled."""

from typing import Final

from flask import Blueprint, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from appliance.auth.principal import Right
from appliance.console.acting import acting
from appliance.console.outward_tabs import OUTWARD_TABS
from appliance.console.page_errors import PageError
from appliance.console.parts import ConsoleParts
from appliance.console.rights import needs, patterns, principal
from appliance.errors import InputError
from appliance.model import cursors
from appliance.model.ids import is_id
from appliance.store.access_rows import Deed

#: Messages on a page.
_ROWS: Final = 50


def add(views: Blueprint, parts: ConsoleParts) -> None:
    """Serve /console/delayed and what cancels a message."""

    @views.get("/delayed")
    def show_delayed() -> str:
        try:
            after = cursors.parse_due_cursor("after", request.args.get("after"))
        except InputError as error:
            raise PageError(400, f"{error.public}.") from error
        visible = patterns()
        rows = parts.delayed.page(after, _ROWS + 1, visible)
        more = len(rows) > _ROWS
        rows = rows[:_ROWS]
        return render_template(
            "console/delayed.html",
            tabs=OUTWARD_TABS if principal().may(Right.ADMIN) else (),
            waiting=parts.delayed.waiting(visible),
            rows=rows,
            following=cursors.due_cursor(rows[-1].due_at, rows[-1].seq) if more else None,
            is_first="after" not in request.args,
            cancelled=request.args.get("cancelled") == "1",
        )

    @views.post("/delayed/<message_id>/cancel")
    @needs(Right.ADMIN)
    def cancel_delayed(message_id: str) -> AnyResponse:
        deed = Deed(acting(), "delayed-cancel", message_id)
        if not is_id(message_id) or not parts.delayed.cancel(message_id, deed):
            raise PageError(404, "This message does not wait any more: it was due, or cancelled.")
        return redirect(url_for("console.show_delayed", cancelled=1), 303)
