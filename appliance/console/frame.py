"""The frame of the console: what holds for every page, whatever it shows.

Who is not signed in is led to the page for that; a form from elsewhere is refused; an error becomes
a page; and every answer tells the browser to run our own scripts only, whatever is in a message.
"""

from typing import Final
from urllib.parse import quote

from flask import Blueprint, Response, redirect, render_template, request, url_for
from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.wrappers import Response as AnyResponse

from appliance.console import assets, live_state, page_errors, page_words, session_cookie
from appliance.console.page_errors import PageError
from appliance.console.pages import (
    access,
    alerts,
    connect,
    dead_letters,
    delayed,
    emptying,
    endpoints,
    handlers,
    help_page,
    interface,
    logs,
    message,
    messages,
    overview,
    replays,
    searches,
    send,
    sign_in,
    subscriptions,
    system,
    topics,
)
from appliance.console.parts import ConsoleParts
from appliance.console.rights import check, is_signed_in, needed, needs
from appliance.console.shell import HUES, Shell, here

#: The console's address; the gate lets all that is below it in.
PREFIX: Final = "/console"

#: The pages, each a module with `add(views, parts)`.
_PAGES: Final = (
    sign_in,
    overview,
    messages,
    searches,
    message,
    topics,
    emptying,
    dead_letters,
    alerts,
    endpoints,
    replays,
    subscriptions,
    delayed,
    handlers,
    send,
    system,
    logs,
    access,
    connect,
    interface,
    help_page,
)

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'none'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS: Final = {
    # With no-referrer browsers don't say where a form comes from either, and that is checked.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}


def blueprint(parts: ConsoleParts) -> Blueprint:
    """Serve the console."""
    views = Blueprint("console", __name__, url_prefix=PREFIX, template_folder="templates")
    shell = Shell(parts)
    # An error at an address of no page is shown within the shell too.
    views.app_context_processor(lambda: shell.context() if is_page(request.path) else {})
    for name in page_words.FILTERS:
        views.add_app_template_filter(getattr(page_words, name), name)
    views.before_request(_admit)
    views.after_app_request(add_headers)
    views.register_error_handler(Exception, page_errors.of_error)
    views.add_url_rule(
        "/static/<path:name>", view_func=needs(None)(assets.show_asset), endpoint="show_asset"
    )
    views.add_url_rule("/icon/<int:hue>.svg", view_func=needs(None)(_icon), endpoint="show_icon")
    for page in _PAGES:
        page.add(views, parts)
    live_state.add(views, parts, shell)

    @views.get("")
    @needs(None)
    def show_way() -> AnyResponse:
        return redirect(url_for("console.show_overview"), 303)

    @views.get("/<path:_rest>")
    @needs(None)
    def show_nothing(_rest: str) -> Response:
        raise NotFound

    return views


def is_page(path: str) -> bool:
    """Whether an address is the console's."""
    return f"{path}/".startswith(f"{PREFIX}/")


def answer_http_error(error: HTTPException) -> Response:
    """Answer an error below the console's address that no page of it has seen, such as a 405."""
    answer = page_errors.of_error(error)
    if isinstance(allowed := getattr(error, "valid_methods", None), list):
        answer.headers["Allow"] = ", ".join(sorted(allowed))
    return answer


def add_headers(answer: Response) -> Response:
    """Say what a browser can do with an answer of the console, even where no page gave it."""
    if is_page(request.path):
        answer.headers.setdefault("Content-Security-Policy", _POLICY)
        answer.headers.update(_HEADERS)
    return answer


def _icon(hue: int) -> Response:
    """Answer with the icon in a colour that comes from the host's name."""
    icon = render_template("console/icon.svg", hue=hue % HUES * (360 // HUES) + 168)
    answer = Response(icon, content_type="image/svg+xml")
    answer.headers["Cache-Control"] = "public, max-age=86400"
    return answer


def _admit() -> AnyResponse | None:
    """Refuse a forged form, and lead who is not signed in to the page for that."""
    if request.method not in ("GET", "HEAD") and session_cookie.is_forged():
        raise PageError(
            403, "This form did not come from a page of this console. Open the page again."
        )
    right = needed()
    if right is None:
        return None
    if is_signed_in():
        check(right)
        return None
    if request.method not in ("GET", "HEAD"):
        return page_errors.error_page(
            401, "You are signed out; nothing was changed. Sign in again."
        )
    to = quote(here(), safe="/")
    return redirect(f"{url_for('console.show_sign_in')}?to={to}", 303)
