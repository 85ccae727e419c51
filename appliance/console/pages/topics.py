"""Topics: how much is in each, whether it has gone silent, and its inbox addresses."""

import re
import time
from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode

from flask import Blueprint, redirect, render_template, request, url_for
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response as AnyResponse

from appliance.auth.principal import Right
from appliance.auth.signatures.kinds import KINDS
from appliance.console.acting import acting
from appliance.console.page_errors import PageError
from appliance.console.parts import ConsoleParts
from appliance.console.qr_code import qr_code
from appliance.console.rights import needs, patterns
from appliance.console.shell import own_url
from appliance.errors import InputError
from appliance.model.topics import check_topic
from appliance.store.rows import Topic, TopicChoice

#: Topics on a page.
_ROWS: Final = 100
#: What the list can be sorted by, what that is called, and whether it begins with the most.
_SORTS: Final = {
    "topic": ("Topic", False),
    "messages": ("Messages", True),
    "bytes": ("Bytes", True),
    "last": ("Last message", True),
}
#: A topic that came regularly is silent after so many of its usual pauses, and at least so long.
_SILENT_PAUSES: Final = 10
_SILENT_SECONDS: Final = 3600.0
#: So many messages make a rhythm.
_RHYTHM: Final = 10
_PART: Final = re.compile(r"[a-z0-9._-]{0,100}")


def add(views: Blueprint, parts: ConsoleParts) -> None:
    """Serve /console/topics and the addresses of each topic."""

    @views.get("/topics")
    def show_topics() -> str:
        choice = _choice(request.args)
        rows = parts.reader.topic_list(choice, _ROWS + 1)
        topics, now = rows[:_ROWS], time.time()
        return render_template(
            "console/topics.html",
            topics=topics,
            letters=parts.dead_letters.of_topics([each.topic for each in topics]),
            silent={each.topic: _silence(each, now) for each in topics},
            rules={each.topic: parts.config.retention.of(each.topic) for each in topics},
            has_rules=bool(parts.config.retention),
            choice=choice,
            sorts=[(name, label, _link(choice, name)) for name, (label, _) in _SORTS.items()],
            following=_following(choice, topics[-1]) if len(rows) > _ROWS else None,
        )

    _serve_addresses(views, parts)


def _serve_addresses(views: Blueprint, parts: ConsoleParts) -> None:
    @views.get("/topics/<topic>/addresses")
    @needs(Right.ADMIN)
    def show_addresses(topic: str) -> str:
        return _addresses(parts, _checked(topic))

    @views.post("/topics/<topic>/addresses")
    @needs(Right.ADMIN)
    def create_address(topic: str) -> str:
        form = request.form
        name, secret = form.get("name", "").strip(), form.get("secret", "").strip()
        try:
            inbox, made = parts.inboxes.create(
                _checked(topic),
                form.get("kind", "open"),
                acting(),
                name=name or None,
                secrets=[secret] if secret else [],
            )
        except InputError as error:
            return _addresses(parts, topic, wrong=error.public, form=form)
        address = f"{own_url(parts.config.http.port)}/in/{made}"
        return _addresses(parts, topic, made=inbox, address=address)

    @views.post("/addresses/revoke")
    @needs(Right.ADMIN)
    def revoke_address() -> AnyResponse | str:
        name = request.form.get("name", "")
        inbox = parts.access.inbox(name)
        if inbox is None:
            raise NotFound
        typed = request.form.get("typed")
        if typed != name:
            return render_template(
                "console/revoke_confirm.html",
                what="inbox address",
                name=name,
                words="Its sender gets 404 at once, and what it sends is not kept.",
                action=url_for("console.revoke_address"),
                back=url_for("console.show_addresses", topic=inbox.topic),
                wrong=typed is not None,
            )
        parts.inboxes.revoke(name, acting())
        return redirect(url_for("console.show_addresses", topic=inbox.topic), 303)


def _addresses(
    parts: ConsoleParts,
    topic: str,
    *,
    made: Any = None,
    address: str = "",
    wrong: str = "",
    form: Mapping[str, str] | None = None,
) -> str:
    return render_template(
        "console/addresses.html",
        topic=topic,
        inboxes=[each for each in parts.access.inboxes() if each.topic == topic],
        kinds=list(KINDS.values()),
        made=made,
        address=address,
        code=qr_code(address) if address else None,
        wrong=wrong,
        form=form or {},
    )


def _checked(topic: str) -> str:
    try:
        return check_topic(topic)
    except InputError as error:
        raise NotFound from error


def _choice(query: Mapping[str, str]) -> TopicChoice:
    """Return the list that an address asks for. Raises PageError."""
    sort, part = query.get("sort", "topic"), query.get("part", "").strip().lower()
    if sort not in _SORTS:
        raise PageError(HTTPStatus.BAD_REQUEST, "The list can't be sorted by that.")
    if not _PART.fullmatch(part):
        # No topic has such a name: the list is empty, and that is said.
        part = "no topic"
    order = query.get("order", "desc" if _SORTS[sort][1] else "asc")
    return TopicChoice(
        sort=sort,
        descending=order == "desc",
        after=_after(sort, query.get("after", "")),
        part=part,
        patterns=patterns(),
    )


def _after(sort: str, text: str) -> tuple[str | int, str] | None:
    if not text:
        return None
    value, tilde, topic = text.rpartition("~")
    is_number = sort in ("messages", "bytes")
    if not tilde or (is_number and not re.fullmatch(r"[0-9]{1,18}", value, re.ASCII)):
        raise PageError(HTTPStatus.BAD_REQUEST, "The address of the page is damaged.")
    return (int(value) if is_number else value, topic)


def _following(choice: TopicChoice, last: Topic) -> str:
    value = {
        "topic": last.topic,
        "messages": last.messages,
        "bytes": last.bytes,
        "last": last.last_at,
    }
    return _url(choice.sort, choice.descending, choice.part, f"{value[choice.sort]}~{last.topic}")


def _link(choice: TopicChoice, sort: str) -> str:
    """Return the address of the same list, sorted by this; the other way round if it is already."""
    turns = sort == choice.sort
    descending = not choice.descending if turns else _SORTS[sort][1]
    return _url(sort, descending, choice.part)


def _url(sort: str, descending: bool, part: str, after: str = "") -> str:
    query = {"sort": sort, "order": "desc" if descending else "asc", "part": part, "after": after}
    given = {name: value for name, value in query.items() if value}
    return f"{url_for('console.show_topics')}?{urlencode(given)}"


def _silence(topic: Topic, now: float) -> float | None:
    """Return for how many seconds a topic has been silent that came regularly before."""
    try:
        first, last = (
            datetime.fromisoformat(at).timestamp() for at in (topic.first_at, topic.last_at)
        )
    except ValueError:  # someone wrote it by SQL
        return None
    if topic.messages < _RHYTHM:
        return None
    pause, silent = (last - first) / (topic.messages - 1), now - last
    return silent if silent > max(_SILENT_PAUSES * pause, _SILENT_SECONDS) else None
