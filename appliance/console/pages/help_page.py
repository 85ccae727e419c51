"""Help and preferences: keys, words, and how this browser shows pages."""

from flask import Blueprint, make_response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from appliance.console.parts import ConsoleParts
from appliance.console.rights import needs

_YEAR_SECONDS = 366 * 86400
#: Field of the form -> its values; the first one is what holds without a cookie.
PREFERENCES = {"time": ("utc", "local"), "keys": ("on", "off"), "dense": ("off", "on")}


def add(views: Blueprint, parts: ConsoleParts) -> None:  # noqa: ARG001  # as every page
    """Serve /console/help and what its form changes."""

    @views.get("/help")
    @needs(None)
    def show_help() -> str:
        chosen = {
            name: request.cookies.get(f"appliance_{name}", values[0])
            for name, values in PREFERENCES.items()
        }
        return render_template("console/help.html", chosen=chosen)

    @views.post("/preferences")
    @needs(None)
    def prefer() -> AnyResponse:
        answer = make_response(redirect(url_for("console.show_help"), 303))
        for name, values in PREFERENCES.items():
            value = request.form.get(name, values[0])
            if value in values:
                # A script of ours reads it; it is no secret.
                answer.set_cookie(
                    f"appliance_{name}", value, max_age=_YEAR_SECONDS, samesite="Lax",
                    secure=request.is_secure, path=f"{request.script_root}/console",
                )  # fmt: skip
        return answer
