"""The Flask application: every address except publishing and streaming.

It checks no token: the connection has done so before Flask sees a request.
"""

from typing import Final

import structlog
from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from appliance.api.http import problems
from appliance.api.services import Services
from appliance.api.views import (
    audit,
    backup,
    backups,
    dead_letter_batch,
    dead_letters,
    delayed,
    deletions,
    deliveries,
    doctor,
    doors,
    endpoints,
    given_up,
    handlers,
    health,
    history,
    inboxes,
    login_links,
    messages,
    metrics,
    processes,
    replays,
    schemas,
    settings,
    status,
    subscriptions,
    tokens,
    topics,
    verify,
    welcome,
)
from appliance.api.views.answers import problem_answer
from appliance.console import frame as console
from appliance.errors import ApplianceError, BackupError, StoreError

_log = structlog.get_logger(__name__)

_VIEWS: Final = (
    welcome,
    health,
    topics,
    messages,
    dead_letters,
    dead_letter_batch,
    delayed,
    deletions,
    inboxes,
    endpoints,
    handlers,
    deliveries,
    replays,
    schemas,
    subscriptions,
    given_up,
    tokens,
    login_links,
    audit,
    status,
    history,
    metrics,
    backup,
    backups,
    doctor,
    doors,
    verify,
    settings,
    processes,
)


def create_app(services: Services) -> Flask:
    """Put the application together; nothing is opened or connected until a request asks."""
    app = Flask(__name__, static_folder=None)
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.url_map.merge_slashes = False  # //v1 is another address: no redirect from it
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    for view in _VIEWS:
        app.register_blueprint(view.blueprint(services))
    app.register_blueprint(console.blueprint(services))
    app.register_error_handler(HTTPException, _answer_http_error)
    app.register_error_handler(ApplianceError, _answer_our_error)
    app.register_error_handler(Exception, _answer_fault)
    app.before_request(_take_principal)
    app.after_request(_add_headers)
    return app


def _take_principal() -> None:
    """Give the views the caller whom the connection has authorized; None at an open address."""
    g.principal = request.environ.get("appliance.principal")


def _answer_http_error(error: HTTPException) -> Response:
    if console.is_page(request.path):
        return console.answer_http_error(error)
    if isinstance(error, NotFound):
        return problem_answer(problems.not_found("there is nothing at this address"))
    if isinstance(error, MethodNotAllowed):
        return problem_answer(problems.method_not_allowed(list(error.valid_methods or ())))
    problem = problems.of_status(error.code or 500, error.name, error.description or error.name)
    return problem_answer(problem)


def _answer_our_error(error: ApplianceError) -> Response:
    if isinstance(error, BackupError):
        _log.warning("backup failed", error=str(error))
    elif isinstance(error, StoreError):
        _log.warning("store unavailable", error=str(error))
    return problem_answer(problems.of(error))


def _answer_fault(_error: Exception) -> Response:
    _log.exception("request failed")
    return problem_answer(problems.internal())


def _add_headers(answer: Response) -> Response:
    """Keep browsers from guessing a type, and caches from keeping what only the token may see."""
    answer.headers["X-Content-Type-Options"] = "nosniff"
    answer.headers.setdefault("Cache-Control", "no-store")
    return answer
