"""Signing in and out: a token, or a link that works once, becomes a session."""

import re
from typing import Final

from flask import Blueprint, Response, make_response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from appliance.console import session_cookie
from appliance.console.page_words import plural, span
from appliance.console.parts import ConsoleParts
from appliance.console.rights import is_signed_in, needs, principal
from appliance.store.access_rows import Actor

#: Where one can go after signing in: a page of ours, and no address that leads elsewhere.
_OWN_PAGE: Final = re.compile(r"/console/(?:[!#-\[\]-~][!-\[\]-~]*)?")


def add(views: Blueprint, parts: ConsoleParts) -> None:
    """Serve /console/login and /console/logout."""
    desk = parts.sign_in

    @views.get("/login")
    @needs(None)
    def show_sign_in() -> AnyResponse:
        to = _wanted(request.args.get("to", ""))
        if is_signed_in():
            return redirect(request.script_root + to, 303)
        return _page(to)

    @views.post("/login")
    @needs(None)
    def sign_in() -> AnyResponse:
        address, agent = request.remote_addr or "", request.headers.get("User-Agent", "")
        to = _wanted(request.form.get("to", ""))
        if seconds := desk.wait(address):
            pause = int(seconds) + 1  # a person waits for whole seconds
            words = f"Too many wrong tokens came from your address. Wait {span(pause)}."
            answer = _page(to, words, 429)
            answer.headers["Retry-After"] = str(pause)
            return answer
        if code := request.form.get("code", ""):
            secret = desk.with_link(code, address, agent)
            wrong = "That link was used, or is older than a minute. Make another, or use a token."
        else:
            secret = desk.with_token(request.form.get("token", ""), address, agent)
            left = plural(desk.tries_left(address), "more try", "more tries")
            wrong = f"That is not a token of this appliance. {left}, then there is a pause."
        if secret is None:
            return _page(to, wrong, 403)
        return session_cookie.give(make_response(redirect(request.script_root + to, 303)), secret)

    @views.post("/logout")
    @needs(None)
    def sign_out() -> AnyResponse:
        if is_signed_in():
            by = Actor(principal().name, request.remote_addr or "")
            desk.out(session_cookie.secret(), by)
        return session_cookie.take(make_response(redirect(url_for("console.show_sign_in"), 303)))


def _page(to: str, wrong: str = "", status: int = 200) -> Response:
    return make_response(render_template("console/login.html", to=to, wrong=wrong), status)


def _wanted(to: str) -> str:
    """Return the page to go to; the first one where the wish is none of ours."""
    return to if _OWN_PAGE.fullmatch(to) and not to.startswith("/console/log") else "/console/"
