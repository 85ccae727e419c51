"""The Flask application: every address but publishing and streaming.

It knows nothing of tokens: the front door asks for one before Flask sees a request.
"""

import threading
from collections.abc import Callable
from importlib import metadata

import structlog
from flask import Flask, Response
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from appliance.api.http import problems
from appliance.api.views import backup, dead_letters, health, messages, openapi, status, topics
from appliance.api.views.answers import problem_answer
from appliance.broker.base import BrokerState
from appliance.config import Config
from appliance.errors import ApplianceError, BackupError, StoreError
from appliance.model.messages import Envelope
from appliance.redrive import Redriver
from appliance.store.sqlite.dead_letters import DeadLetters
from appliance.store.sqlite.reader import Reader
from appliance.supervision.state import ProcessState

_log = structlog.get_logger(__name__)


def create_app(
    config: Config,
    reader: Reader,
    broker: Callable[[], BrokerState],
    processes: Callable[[], list[ProcessState]],
    *,
    publish: Callable[[Envelope], None],
    stopping: threading.Event | None = None,
) -> Flask:
    """Put the application together; nothing is opened or connected until a request asks.

    `publish` is called in any thread; it returns when the broker has an envelope on disk, or
    raises BrokerError. What takes long is given up when `stopping` is set.
    """
    letters = DeadLetters(config.database, reader)
    version = metadata.version("queue-appliance")
    app = Flask(__name__, static_folder=None)
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.url_map.merge_slashes = False  # //v1 is another address, not one to be sent on from
    app.register_blueprint(topics.blueprint(reader))
    app.register_blueprint(messages.blueprint(reader, letters))
    app.register_blueprint(dead_letters.blueprint(letters, Redriver(config, letters, publish)))
    app.register_blueprint(health.blueprint(config, reader, broker))
    app.register_blueprint(status.blueprint(config, reader, broker, processes, version))
    app.register_blueprint(backup.blueprint(config, stopping or threading.Event()))
    app.register_blueprint(openapi.blueprint(config, version))
    app.register_error_handler(HTTPException, _answer_http_error)
    app.register_error_handler(ApplianceError, _answer_our_error)
    app.register_error_handler(Exception, _answer_fault)
    app.after_request(_add_headers)
    return app


def _answer_http_error(error: HTTPException) -> Response:
    if isinstance(error, NotFound):
        return problem_answer(problems.not_found("there is nothing at this address"))
    if isinstance(error, MethodNotAllowed):
        return problem_answer(problems.method_not_allowed(list(error.valid_methods or ())))
    problem = problems.of_status(error.code or 500, error.name, error.description or error.name)
    return problem_answer(problem)


def _answer_our_error(error: ApplianceError) -> Response:
    if isinstance(error, BackupError):
        _log.warning("no backup was made", error=str(error))
    elif isinstance(error, StoreError):
        _log.warning("the store can't be used", error=str(error))
    return problem_answer(problems.of(error))


def _answer_fault(_error: Exception) -> Response:
    _log.exception("a request was not answered")
    return problem_answer(problems.internal())


def _add_headers(answer: Response) -> Response:
    """Let no browser guess a type, and nothing on the way keep what only the token may see."""
    answer.headers["X-Content-Type-Options"] = "nosniff"
    answer.headers["Cache-Control"] = "no-store"
    return answer
