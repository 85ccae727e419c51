"""Lists of messages: all topics or one, searched and filtered, with one message beside them."""

from typing import Final
from urllib.parse import urlencode

from flask import Blueprint, render_template, request

from appliance.auth.principal import Right
from appliance.console.assets import assets
from appliance.console.listing import find, read_listing
from appliance.console.message_facts import facts_of, find_message
from appliance.console.page_errors import PageError
from appliance.console.parts import ConsoleParts
from appliance.console.rights import check, patterns
from appliance.errors import InputError
from appliance.model.topics import check_topic

#: Topics that the field proposes.
_PROPOSED: Final = 100


def add(views: Blueprint, parts: ConsoleParts) -> None:
    """Serve /console/messages and /console/topics/{topic}."""

    @views.get("/messages")
    def show_messages() -> str:
        return _list(parts, None)

    @views.get("/topics/<topic>")
    def show_topic(topic: str) -> str:
        try:
            check_topic(topic)
        except InputError as error:
            raise PageError(404, f"{error.public}.") from error
        check(Right.READ, topic)
        return _list(parts, topic)


def _list(parts: ConsoleParts, topic: str | None) -> str:
    listing = read_listing(request.args, patterns(), topic)
    page = find(parts.reader, listing)
    opened = listing.value("open")
    message = find_message(parts, opened) if opened else None
    stream = f"/v1/topics/{topic}/stream" if topic else "/v1/stream"
    return render_template(
        "console/messages.html",
        listing=listing,
        page=page,
        topic=topic,
        topics=[] if topic else parts.reader.topics(limit=_PROPOSED, patterns=patterns()),
        facts=facts_of(parts, message, request.args.get("view", "")) if message else None,
        stream=request.script_root + stream,
        has_live="live.js" in assets(),
        api=_api_address(topic, listing.api),
        total=parts.reader.totals(patterns()).messages if not page.rows else None,
    )


def _api_address(topic: str | None, query: list[tuple[str, str]]) -> str:
    """Return path and query of the API's call that lists the same."""
    path = f"/v1/topics/{topic}/messages" if topic else "/v1/messages"
    return f"{path}?{urlencode(query)}" if query else f"{path}?"
