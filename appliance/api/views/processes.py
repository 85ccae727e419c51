"""The processes: their logs, and a restart. The gate lets administrators in only."""

import re
from dataclasses import asdict
from typing import Any, Final

from flask import Blueprint, Response, request

from appliance.api.http import problems
from appliance.api.services import Services
from appliance.api.views import pages, parameters
from appliance.api.views.actors import actor
from appliance.api.views.answers import json_answer, problem_answer
from appliance.errors import InputError
from appliance.store.access_rows import Deed
from appliance.supervision.process_logs import LEVELS, MOST_LINES, ProcessLog

#: Parameters of a log, and the lines that are shown unless it says.
LOG_PARAMETERS: Final = ("lines", "level")
DEFAULT_LINES: Final = 100
#: The words that `level` takes; the first is the default.
LOG_LEVELS: Final = LEVELS


def blueprint(services: Services) -> Blueprint:
    """Serve /v1/logs/{process} and /v1/processes/{name}/restart."""
    views, operations = Blueprint("processes", __name__), services.operations

    @views.get("/v1/logs/<process>")
    def show_log(process: str) -> Response:
        query = parameters.read(request.args.to_dict(flat=False), LOG_PARAMETERS)
        level = parameters.choice("level", query.get("level"), LOG_LEVELS)
        log = operations.log(process, line_count(query.get("lines")), level)
        if log is None:
            return _unknown(process)
        return json_answer(_shown(log))

    @views.post("/v1/processes/<name>/restart")
    def restart_process(name: str) -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        if not operations.restart(name):
            return _unknown(name)
        services.access.record(Deed(actor(), "process-restart", name))
        answer = json_answer(
            {
                "process": name,
                "status": "restarting",
                "detail": "it was told to end, and is started again at once; nothing is lost",
            },
            202,
        )
        answer.headers["Location"] = pages.address("/v1/status")
        return answer

    return views


def line_count(text: str | None) -> int:
    """Return how many lines of a log are asked for. Raises InputError."""
    if text is None:
        return DEFAULT_LINES
    if not re.fullmatch(r"[0-9]{1,6}", text, re.ASCII) or not 1 <= int(text) <= MOST_LINES:
        raise InputError(f"lines: expected a whole number from 1 to {MOST_LINES}")
    return int(text)


def _shown(log: ProcessLog) -> dict[str, Any]:
    return asdict(log) | {"lines": [line._asdict() for line in log.lines]}


def _unknown(name: str) -> Response:
    return problem_answer(
        problems.not_found(
            f"no supervisor runs a process {name[:50]!r} here; `appliance status` lists them"
        )
    )
