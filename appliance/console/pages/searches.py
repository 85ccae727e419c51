"""Searches that a browser keeps: saved under a name from a list, forgotten again."""

from typing import Final

from flask import Blueprint, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from appliance.console.parts import ConsoleParts
from appliance.console.saved_searches import (
    SavedSearch,
    cookie_of,
    saved_search,
    searches_in,
    with_search,
    without_search,
)

_COOKIE: Final = "appliance_searches"
_YEAR_SECONDS: Final = 366 * 86400


def add(views: Blueprint, parts: ConsoleParts) -> None:  # noqa: ARG001  # as every page
    """Serve what the form for saved searches changes."""

    @views.post("/searches")
    def keep_search() -> AnyResponse:
        form = request.form
        asked = saved_search(form.get("name", ""), form.get("topic", ""), form.get("query", ""))
        if "forget" in form:
            searches = without_search(kept_searches(), asked.name)
        else:
            searches = with_search(kept_searches(), asked)
        answer = redirect(search_url(asked), 303)
        answer.set_cookie(
            _COOKIE, cookie_of(searches), max_age=_YEAR_SECONDS if searches else 0, httponly=True,
            secure=request.is_secure, samesite="Lax", path=f"{request.script_root}/console",
        )  # fmt: skip
        return answer


def kept_searches() -> list[SavedSearch]:
    """Return the searches that the browser keeps."""
    return searches_in(request.cookies.get(_COOKIE, ""))


def search_url(search: SavedSearch) -> str:
    """Return the address of the list that a search finds."""
    if search.topic:
        url = url_for("console.show_topic", topic=search.topic)
    else:
        url = url_for("console.show_messages")
    return f"{url}?{search.query}" if search.query else url
