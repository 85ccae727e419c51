"""Endpoints: where stored messages go on to, and how each of them stands. For administrators."""

import re
from collections.abc import Mapping
from typing import Any, Final

from flask import Blueprint, redirect, render_template, request, url_for
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response as AnyResponse

from appliance.auth.principal import Right
from appliance.console.acting import acting
from appliance.console.outward_tabs import OUTWARD_TABS
from appliance.console.page_errors import PageError
from appliance.console.parts import ConsoleParts
from appliance.console.rights import needs
from appliance.errors import BusyError, InputError
from appliance.model import timestamps
from appliance.operations.endpoint_desk import MOST_IDS
from appliance.operations.endpoint_trial import EndpointTried
from appliance.store.endpoint_rows import GIVEN_UP, GONE, WAITING, EndpointRow
from appliance.store.rows import Span

#: Attempts and undelivered messages on a page.
_ROWS: Final = 50
#: From so many messages on, discarding them wants their number typed.
_TYPED_FROM: Final = 11
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)
#: States of undelivered messages, as they are called on the page.
STATE_WORDS: Final = {WAITING: "waits", GIVEN_UP: "given up", GONE: "deleted before"}


def add(views: Blueprint, parts: ConsoleParts) -> None:
    """Serve /console/endpoints and the addresses below it."""

    @views.get("/endpoints")
    @needs(Right.ADMIN)
    def show_endpoints() -> str:
        return _list(parts)

    @views.post("/endpoints")
    @needs(Right.ADMIN)
    def create_endpoint() -> str:
        form = request.form
        try:
            made, secret = parts.endpoint_desk.create(
                form.get("name", "").strip(), _wish(form), acting()
            )
        except InputError as error:
            return _list(parts, wrong=error.public, form=form)
        return _list(parts, made=made, secret=secret)

    @views.get("/endpoints/<name>")
    @needs(Right.ADMIN)
    def show_endpoint(name: str) -> str:
        return _page(parts, _found(parts, name))

    _serve_changes(views, parts)
    _serve_form(views, parts)
    _serve_undelivered(views, parts)


def _serve_changes(views: Blueprint, parts: ConsoleParts) -> None:
    desk = parts.endpoint_desk

    @views.post("/endpoints/<name>/pause")
    @needs(Right.ADMIN)
    def pause_endpoint(name: str) -> AnyResponse | str:
        endpoint = _found(parts, name)
        try:
            desk.pause(name, request.form.get("reason", ""), acting())
        except InputError as error:
            return _page(parts, endpoint, wrong=error.public)
        return _back(name)

    @views.post("/endpoints/<name>/resume")
    @needs(Right.ADMIN)
    def resume_endpoint(name: str) -> AnyResponse:
        if not desk.resume(name, acting()):
            raise NotFound
        return _back(name)

    @views.post("/endpoints/<name>/rotate")
    @needs(Right.ADMIN)
    def rotate_endpoint(name: str) -> str:
        endpoint = _found(parts, name)
        at_once = request.form.get("at_once") == "true"
        try:
            made = desk.rotate(name, acting(), old_for="0s" if at_once else "1d")
        except InputError as error:
            return _page(parts, endpoint, wrong=error.public)
        return _page(parts, _found(parts, name), rotated=made)

    @views.post("/endpoints/<name>/remove")
    @needs(Right.ADMIN)
    def remove_endpoint(name: str) -> AnyResponse | str:
        endpoint, typed = _found(parts, name), request.form.get("typed")
        if typed != name:
            return render_template(
                "console/endpoint_remove.html", endpoint=endpoint, wrong=typed is not None
            )
        desk.remove(name, acting())
        return redirect(url_for("console.show_endpoints"), 303)


def _serve_form(views: Blueprint, parts: ConsoleParts) -> None:
    """Serve the form that changes an endpoint, and the button that tests it."""
    desk = parts.endpoint_desk

    @views.post("/endpoints/<name>/change")
    @needs(Right.ADMIN)
    def change_endpoint(name: str) -> AnyResponse | str:
        endpoint = _found(parts, name)
        try:
            changed = desk.change(endpoint, _changes(endpoint, request.form), acting())
        except InputError as error:
            return _page(parts, endpoint, wrong=error.public, form=request.form)
        if changed is None:
            raise NotFound
        return _back(name)

    @views.post("/endpoints/<name>/test")
    @needs(Right.ADMIN)
    def test_endpoint(name: str) -> str:
        endpoint = _found(parts, name)
        try:
            answered = desk.test(name, acting())
        except (InputError, BusyError) as error:
            return _page(parts, endpoint, wrong=error.public)
        return _page(parts, endpoint, answered=answered)


def _serve_undelivered(views: Blueprint, parts: ConsoleParts) -> None:
    desk = parts.endpoint_desk

    @views.post("/endpoints/<name>/redrive")
    @needs(Right.ADMIN)
    def redrive_undelivered(name: str) -> AnyResponse:
        _found(parts, name)
        ids = _marked()
        return _back(name, redriven=desk.redrive(name, ids, acting()))

    @views.post("/endpoints/<name>/discard")
    @needs(Right.ADMIN)
    def discard_undelivered(name: str) -> AnyResponse | str:
        endpoint, ids = _found(parts, name), _marked()
        backlog = parts.endpoints.backlog(endpoint)
        count = backlog.given_up + backlog.gone if ids is None else len(ids)
        typed, is_sure = request.form.get("typed", "").strip(), "sure" in request.form
        is_right = count < _TYPED_FROM or typed.replace(",", "") == str(count)
        if not is_sure or not is_right:
            return render_template(
                "console/endpoint_discard.html",
                endpoint=endpoint,
                ids=ids,
                count=count,
                must_type=count >= _TYPED_FROM,
                wrong=is_sure and not is_right,
            )
        return _back(name, discarded=desk.discard(name, ids, acting()))


def _list(
    parts: ConsoleParts,
    *,
    made: EndpointRow | None = None,
    secret: str = "",
    wrong: str = "",
    form: Mapping[str, str] | None = None,
) -> str:
    rows = parts.endpoints.all()
    return render_template(
        "console/endpoints.html",
        tabs=OUTWARD_TABS,
        endpoints=[(row, parts.endpoints.backlog(row)) for row in rows],
        made=made,
        secret=secret,
        wrong=wrong,
        form=form or {},
    )


def _page(
    parts: ConsoleParts,
    endpoint: EndpointRow,
    *,
    wrong: str = "",
    rotated: Any = None,
    answered: EndpointTried | None = None,
    form: Mapping[str, str] | None = None,
) -> str:
    query, name = request.args, endpoint.name
    state = query.get("state") if query.get("state") in STATE_WORDS else None
    failed = query.get("failed") == "true"
    due_span, tried_span = (Span(before=_number(query.get(each))) for each in ("due", "before"))
    undelivered = parts.endpoints.due(name, state, due_span, _ROWS + 1)
    tried = parts.endpoints.attempts(tried_span, _ROWS + 1, name=name, failed=failed)
    return render_template(
        "console/endpoint.html",
        endpoint=endpoint,
        backlog=parts.endpoints.backlog(endpoint),
        words=STATE_WORDS,
        at=_moment,
        chosen=state,
        failed=failed,
        undelivered=undelivered[:_ROWS],
        older_due=undelivered[_ROWS - 1].id if len(undelivered) > _ROWS else None,
        attempts=tried[:_ROWS],
        older=tried[_ROWS - 1].id if len(tried) > _ROWS else None,
        is_first=due_span.before is None and tried_span.before is None,
        redriven=_number(query.get("redriven"), 0),
        discarded=_number(query.get("discarded"), 0),
        wrong=wrong,
        rotated=rotated,
        answered=answered,
        form=_form(endpoint) if form is None else form,
        is_changing=form is not None,
    )


def _found(parts: ConsoleParts, name: str) -> EndpointRow:
    endpoint = parts.endpoints.find(name)
    if endpoint is None:
        raise NotFound
    return endpoint


def _back(name: str, **values: Any) -> AnyResponse:
    return redirect(url_for("console.show_endpoint", name=name, **values), 303)


def _wish(form: Mapping[str, str]) -> dict[str, Any]:
    """Return what the form says of an endpoint, as the desk takes it."""
    settings: dict[str, Any] = {"ordered": form.get("ordered") == "true"}
    if rate := form.get("rate", "").strip():
        settings["rate"] = rate
    if lifetime := form.get("lifetime", "").strip():
        settings["lifetime"] = lifetime
    wish: dict[str, Any] = {
        "url": form.get("url", "").strip(),
        "topics": form.get("topics", "").replace(",", " ").split(),
        "where": [line.strip() for line in form.get("where", "").splitlines() if line.strip()],
        "settings": settings,
        "from": form.get("from", "now"),
    }
    if authorization := form.get("authorization", "").strip():
        wish["own_headers"] = {"authorization": authorization}
    return wish


def _changes(endpoint: EndpointRow, form: Mapping[str, str]) -> dict[str, Any]:
    """Return what the form changes; an empty setting gets its default. Raises InputError."""
    wish = _wish(form)
    del wish["from"]  # it goes on where it was
    wish["settings"] = {"rate": None, "lifetime": None, **wish["settings"]}
    if "own_headers" in wish and set(endpoint.own_headers) - {"authorization"}:
        raise InputError(
            "own_headers: it has others too, and all are replaced at once; "
            "`appliance endpoint change` does that"
        )
    return wish


def _form(endpoint: EndpointRow) -> dict[str, str]:
    """Return the form that would change nothing of an endpoint."""
    settings = endpoint.settings
    lifetime = settings.get("lifetime")
    return {
        "url": endpoint.url,
        "topics": "" if endpoint.topics == ("*",) else " ".join(endpoint.topics),
        "where": "\n".join(endpoint.where),
        "ordered": "true" if settings.get("ordered") else "",
        "rate": str(settings.get("rate") or ""),
        "lifetime": f"{lifetime}s" if isinstance(lifetime, int) else str(lifetime or ""),
    }


def _marked() -> list[int] | None:
    """Return the ids of the messages that a form marks; None for all. Raises PageError."""
    if request.form.get("every") == "true":
        return None
    marked = request.form.getlist("id")
    if not marked:
        raise PageError(400, "No message is marked. Go back and mark some.")
    if len(marked) > MOST_IDS or not all(_NUMBER.fullmatch(each) for each in marked):
        raise PageError(400, "The form names messages in a way that no page of this console does.")
    return [int(each) for each in marked]


def _number(text: str | None, least: int | None = None) -> int | None:
    if least is not None and text == str(least):
        return least
    return int(text) if text and _NUMBER.fullmatch(text) else None


def _moment(seconds: float | None) -> str | None:
    """Return a Unix time as the store writes times; None where it is none."""
    if seconds is None or not 0 <= seconds <= timestamps.LAST_SECOND:
        return None
    return timestamps.timestamp(seconds)
