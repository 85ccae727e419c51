"""Replays: stored messages that are sent again, and how far each has come. For administrators."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from flask import Blueprint, Response, redirect, render_template, request, url_for
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response as AnyResponse

from appliance.auth.principal import Right
from appliance.console.acting import acting
from appliance.console.outward_tabs import OUTWARD_TABS
from appliance.console.parts import ConsoleParts
from appliance.console.refresh import again_while
from appliance.console.rights import needs
from appliance.errors import InputError, StoreError
from appliance.operations.replay_desk import ReplayAim
from appliance.store.replay_rows import DONE, RUNNING, ReplayChoice, ReplayRow

#: What a form says in one line each.
_TEXTS: Final = ("q", "kind", "since", "until", "sql")
_SEQS: Final = ("first_seq", "last_seq")


def add(views: Blueprint, parts: ConsoleParts) -> None:
    """Serve /console/replays and the addresses below it."""
    desk = parts.replays

    @views.get("/replays")
    @needs(Right.ADMIN)
    def show_replays() -> Response:
        return _list(parts)

    @views.get("/replays/new")
    @needs(Right.ADMIN)
    def show_new_replay() -> str:
        return _form(parts, request.args)

    @views.post("/replays/new")
    @needs(Right.ADMIN)
    def create_replay() -> AnyResponse | str:
        form = request.form
        try:
            aim = desk.read(_wish(form))
            if form.get("sure") != "true":
                return _form(parts, form, aim=aim, counted=desk.choose(aim))
            desk.create(aim, acting())
        except (InputError, StoreError) as error:
            return _form(parts, form, wrong=error.public)
        return redirect(url_for("console.show_replays"), 303)

    @views.post("/replays/<replay_id>/stop")
    @needs(Right.ADMIN)
    def stop_replay(replay_id: str) -> AnyResponse:
        return _steer(parts, lambda: desk.stop(replay_id, acting()))

    @views.post("/replays/<replay_id>/resume")
    @needs(Right.ADMIN)
    def resume_replay(replay_id: str) -> AnyResponse:
        return _steer(parts, lambda: desk.resume(replay_id, acting()))


def _steer(parts: ConsoleParts, act: Callable[[], ReplayRow | None]) -> AnyResponse:
    try:
        if act() is None:
            raise NotFound
    except InputError as error:
        return _list(parts, wrong=error.public)
    return redirect(url_for("console.show_replays"), 303)


def _list(parts: ConsoleParts, wrong: str = "") -> Response:
    rows = parts.replays.newest()
    page = render_template(
        "console/replays.html",
        replays=[(row, _share(row)) for row in rows],
        tabs=OUTWARD_TABS,
        wrong=wrong,
    )
    return again_while(page, not wrong and any(row.state == RUNNING for row in rows))


def _form(
    parts: ConsoleParts,
    form: Mapping[str, str],
    *,
    aim: ReplayAim | None = None,
    counted: ReplayChoice | None = None,
    wrong: str = "",
) -> str:
    return render_template(
        "console/replay_new.html",
        endpoints=[each.name for each in parts.endpoints.all()],
        form=form,
        aim=aim,
        counted=counted,
        wrong=wrong,
    )


def _share(row: ReplayRow) -> int:
    """Return how many per cent of what is to be looked through are dealt with."""
    length = row.until - row.after
    if row.state == DONE or length <= 0:
        return 100
    return max(0, min(100, 100 * (row.cursor - row.after) // length))


def _wish(form: Mapping[str, str]) -> dict[str, Any]:
    """Return what the form says of a replay, as the desk takes it."""
    select: dict[str, Any] = {name: text for name in _TEXTS if (text := _text(form, name))}
    for name in _SEQS:
        if text := _text(form, name):
            if not (text.isascii() and text.isdigit() and len(text) < 19):
                raise InputError(f"{name}: expected the seq of a message")
            select[name] = int(text)
    if topics := _text(form, "topics").replace(",", " ").split():
        select["topics"] = topics
    if where := [line.strip() for line in form.get("where", "").splitlines() if line.strip()]:
        select["where"] = where
    wish: dict[str, Any] = {"select": select}
    for name in ("endpoint", "into"):
        if text := _text(form, name):
            wish[name] = text
    return wish


def _text(form: Mapping[str, str], name: str) -> str:
    return form.get(name, "").strip()
