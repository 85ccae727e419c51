"""Errors as pages: the console says in words what is wrong, and where to go on."""

import math
from http import HTTPStatus
from typing import Final

import structlog
from flask import Response, make_response, render_template, request
from werkzeug.exceptions import HTTPException

from appliance.console.session_cookie import take
from appliance.errors import ApplianceError, InputError, SlowReadError, StoreError

_log = structlog.get_logger(__name__)

_WORDS: Final = {
    400: ("That can't be read", "Something in the address or the form is not as it should be."),
    403: ("Not allowed", "Your token has no right to do this."),
    404: ("There is nothing here", "The address may be old or misspelt."),
    405: ("Not that way", "This address can't be asked like this."),
    413: ("Too large", "The form holds more than this page can take."),
    500: ("That went wrong", "The page failed. The log of the program api has the details."),
    503: ("Not now", "The database can't be read at the moment. Try again in a few seconds."),
}


class PageError(Exception):
    """An answer that is no page; `words` say why this time."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status
        self.words = words


def error_page(status: int, words: str = "", wait: float = 0.0) -> Response:
    """Return the page of an error; `words` replace the usual sentence."""
    title, sentence = _WORDS.get(status) or (HTTPStatus(status).phrase, "The request was refused.")
    try:
        page = render_template(
            "console/error.html", status=status, heading=title, words=words or sentence
        )
    except Exception:  # noqa: BLE001  # it can be broken too
        _log.exception("request failed", path=request.path)
        answer = Response(f"{title}. {words or sentence}\n", status, content_type="text/plain")
    else:
        answer = make_response(page, status)
    if wait:
        answer.headers["Retry-After"] = str(math.ceil(wait))
    if status == HTTPStatus.UNAUTHORIZED:
        take(answer)
    return answer


def of_error(error: Exception) -> Response:
    """Return the page of whatever a page raised."""
    if isinstance(error, PageError):
        return error_page(error.status, error.words)
    if isinstance(error, HTTPException):
        return error_page(error.code or 500)
    if isinstance(error, InputError):
        return error_page(400, f"{error.public}.")
    if isinstance(error, StoreError) and not isinstance(error, SlowReadError):
        _log.warning("store unavailable", error=str(error))
        return error_page(503, wait=2.0)
    if isinstance(error, ApplianceError):
        return error_page(503, f"{error.public}.", wait=2.0)
    _log.exception("request failed", exc_info=error, path=request.path)
    return error_page(500)
