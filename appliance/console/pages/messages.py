"""Lists of messages: all topics or one, searched and filtered, with one message beside them."""

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from flask import Blueprint, render_template, request

from appliance.auth.principal import Right
from appliance.console.assets import assets
from appliance.console.facets import Facets, facets
from appliance.console.listing import Listing, find, read_listing
from appliance.console.message_facts import facts_of, find_message
from appliance.console.page_errors import PageError
from appliance.console.pages.searches import kept_searches, search_url
from appliance.console.parts import ConsoleParts
from appliance.console.rights import check, patterns, principal
from appliance.console.suggestions import Suggested, Suggestions
from appliance.errors import InputError, SlowReadError
from appliance.model.topics import check_topic
from appliance.store.rows import Topic, TopicChoice

#: Topics that the field proposes.
_PROPOSED: Final = 100
#: Topics that a list can be narrowed down to, the largest ones.
_LARGEST: Final = 10


@dataclass(frozen=True)
class Narrowing:
    """What a list can be narrowed down by; `found` is None where that takes too long."""

    found: Facets | None
    topics: list[Topic]


def add(views: Blueprint, parts: ConsoleParts) -> None:
    """Serve /console/messages and /console/topics/{topic}."""
    suggestions = Suggestions(parts.reader)

    @views.get("/messages")
    def show_messages() -> str:
        return _list(parts, suggestions, None)

    @views.get("/topics/<topic>")
    def show_topic(topic: str) -> str:
        try:
            check_topic(topic)
        except InputError as error:
            raise PageError(404, f"{error.public}.") from error
        check(Right.READ, topic)
        return _list(parts, suggestions, topic)


def _list(parts: ConsoleParts, suggestions: Suggestions, topic: str | None) -> str:
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
        suggested=_suggested(suggestions, listing),
        narrowing=_narrowing(parts, listing, topic) if listing.value("facet") else None,
        saved=[(each, search_url(each)) for each in kept_searches()],
    )


def _suggested(suggestions: Suggestions, listing: Listing) -> Suggested:
    """Return columns for a list of one topic that the user may read."""
    topic = listing.wanted.topic
    if topic is None or not principal().may(Right.READ, topic):
        return Suggested()
    suggested = suggestions.of(topic)
    chosen = {name for name, _ in listing.columns}
    return suggested._replace(columns=tuple(x for x in suggested.columns if x not in chosen))


def _narrowing(parts: ConsoleParts, listing: Listing, topic: str | None) -> Narrowing:
    topics: list[Topic] = []
    if topic is None and not listing.value("topic"):
        choice = TopicChoice(sort="messages", descending=True, patterns=patterns())
        topics = parts.reader.topic_list(choice, _LARGEST)
    key, asker = listing.value("facet"), principal().name
    try:
        return Narrowing(facets(parts.reader, listing.wanted, key, asker), topics)
    except SlowReadError:
        return Narrowing(None, topics)


def _api_address(topic: str | None, query: list[tuple[str, str]]) -> str:
    """Return path and query of the API's call that lists the same."""
    path = f"/v1/topics/{topic}/messages" if topic else "/v1/messages"
    return f"{path}?{urlencode(query)}" if query else f"{path}?"
