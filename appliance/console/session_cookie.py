"""The cookie that holds a session's secret, and the token that its forms carry.

Other sites can make a browser send the cookie, and not read it: so a form proves by a hash of the
cookie's secret that it is one of our pages.
"""

from typing import Final

from flask import Response, request

from appliance.auth.authorizer import COOKIE, SECURE_COOKIE
from appliance.auth.form_token import form_token as form_token_of
from appliance.auth.form_token import is_form_token

#: Name of the form's field.
FIELD: Final = "csrf"


def secret() -> str:
    """Return the secret in the request's cookie; empty where there is none."""
    return request.cookies.get(SECURE_COOKIE) or request.cookies.get(COOKIE) or ""


def form_token() -> str:
    """Return what a form of this session carries."""
    return form_token_of(secret().encode("utf-8", "replace"))


def give(answer: Response, session_secret: str) -> Response:
    """Give the browser a session; it forgets it when it is closed, and we sooner or later."""
    answer.set_cookie(
        SECURE_COOKIE if request.is_secure else COOKIE,
        session_secret,
        httponly=True,
        secure=request.is_secure,
        samesite="Lax",  # with Strict a link in a mail would arrive signed out
        path="/",
    )
    return answer


def take(answer: Response) -> Response:
    """Have the browser forget its session."""
    for name, is_secure in ((SECURE_COOKIE, True), (COOKIE, False)):
        if name in request.cookies:
            answer.set_cookie(
                name, "", expires=0, httponly=True, secure=is_secure, samesite="Lax", path="/"
            )
    return answer


def is_forged() -> bool:
    """Whether a form may come from elsewhere: from a page that is not ours, or without our token.

    A browser says where a form comes from: in Sec-Fetch-Site where the connection is safe, in
    Origin else. What says neither is no browser, and has the API.
    """
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is not None:
        is_ours = site == "same-origin"
    else:
        is_ours = origin is not None and origin.partition("://")[2] == request.host
    if not is_ours:
        return True
    sent = request.form.get(FIELD, "")
    own = secret().encode("utf-8", "replace")
    return bool(own) and not is_form_token(own, sent.encode("utf-8", "replace"))
