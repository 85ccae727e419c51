"""The state of the appliance for pages that are open: asked for now and then, while one is seen."""

from flask import Blueprint, Response, jsonify, request, url_for

from appliance.auth.principal import Right
from appliance.console.listing import find, read_listing
from appliance.console.page_words import size, span
from appliance.console.parts import ConsoleParts
from appliance.console.rights import is_signed_in, needs, patterns, principal
from appliance.console.shell import SIGNED_OUT, Shell
from appliance.errors import StoreError
from appliance.metrics import board


def add(views: Blueprint, parts: ConsoleParts, shell: Shell) -> None:
    """Serve /console/state, and /console/state?first, which tells of the newest message too."""

    @views.get("/state")
    @needs(None)
    def show_state() -> Response:
        signed_in = is_signed_in()
        shown = shell.state().shown() if signed_in else SIGNED_OUT
        wants_first = signed_in and "first" in request.args
        return jsonify(shown._asdict() | {"first": _newest(parts) if wants_first else None})


def _newest(parts: ConsoleParts) -> tuple[str, str] | None:
    """Return the newest message that may be read, in words and with its page's address."""
    if not principal().may(Right.READ):
        return None
    try:
        rows = find(parts.reader, read_listing({}, patterns(), None), 1).rows
    except StoreError:
        return None
    if not rows:
        return None
    message = rows[0].message
    took = _mean_lag(parts)
    later = "" if took is None else f", stored {span(took)} later"
    words = f"Got it: {size(len(message.body)).replace(' B', ' bytes')}{later}. See it"
    return words, url_for("console.show_message", message_id=message.id)


def _mean_lag(parts: ConsoleParts) -> float | None:
    """Return the seconds from 202 to the row, on average over all messages; None: not known yet."""
    try:
        values = board.totals(parts.config).histograms.get("store_lag_seconds", [])
    except StoreError:
        return None
    *counts, seconds = values or [0.0]
    return seconds / sum(counts) if sum(counts) else None
