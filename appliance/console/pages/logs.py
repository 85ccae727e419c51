"""Logs: the last lines of each process, followed while someone looks. For administrators."""

import hashlib
import json
from collections import Counter
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from flask import Blueprint, Response, request
from werkzeug.exceptions import NotFound

from appliance.auth.principal import Right
from appliance.console.page_errors import PageError
from appliance.console.page_words import whole_text
from appliance.console.pages.system import system_page
from appliance.console.parts import ConsoleParts
from appliance.console.refresh import again_while
from appliance.console.rights import needs
from appliance.logs import terminal
from appliance.supervision.process_logs import LEVELS, LogLine, ProcessLog

#: Lines of a log on its page.
_LINES: Final = 500
#: Classes of the style sheet, by level.
_CLASSES: Final = {"warning": "warn", "error": "bad", "critical": "bad", "debug": "muted"}


class ShownLine(NamedTuple):
    """A line as its page shows it; its name stays the same while the log moves on."""

    name: str
    level: str
    style: str
    text: str


def add(views: Blueprint, parts: ConsoleParts) -> None:
    """Serve /console/system/logs, and the lines alone to the script that follows them."""

    def asked() -> tuple[list[str], str, str, ProcessLog | None]:
        names = [each.name for each in parts.processes()]
        process = request.args.get("process") or (names[0] if names else "supervisord")
        level = request.args.get("level", "debug")
        if level not in LEVELS:
            raise PageError(HTTPStatus.BAD_REQUEST, "There is no such level of a log.")
        log = parts.operations.log(process, _LINES, level)
        if log is None and names:
            raise NotFound
        return names, process, level, log

    @views.get("/system/logs")
    @needs(Right.ADMIN)
    def show_logs() -> Response:
        names, process, level, log = asked()
        text = system_page(
            "logs.html",
            names=[*names, "supervisord"],
            process=process,
            level=level,
            levels=LEVELS,
            log=log,
            lines=_shown(log) if log else [],
            follows="follow" in request.args,
        )
        return again_while(text, "follow" in request.args)

    @views.get("/system/logs/lines")
    @needs(Right.ADMIN)
    def send_lines() -> Response:
        _, _, _, log = asked()
        lines = _shown(log) if log else []
        answer = Response(
            json.dumps([line._asdict() for line in lines]), content_type="application/json"
        )
        names = " ".join(line.name for line in lines)
        answer.set_etag(hashlib.sha256(names.encode()).hexdigest()[:16])
        answer.make_conditional(request)
        return answer


def _shown(log: ProcessLog) -> list[ShownLine]:
    """Return the lines with names made of what they say; equal ones are counted."""
    seen: Counter[str] = Counter()
    shown = []
    for line in log.lines:
        digest = hashlib.sha256(line.text.encode("utf-8", "replace")).hexdigest()[:10]
        seen[digest] += 1
        name = f"l{digest}-{seen[digest]}"
        text = whole_text(_readable(line))  # a sender's half a character can be in a value
        shown.append(ShownLine(name, line.level, _CLASSES.get(line.level, ""), text))
    return shown


def _readable(line: LogLine) -> str:
    """Return a line as a terminal shows it, where it is one of ours."""
    if not line.text.startswith("{"):
        return line.text
    try:
        members: Any = json.loads(line.text)
        when = datetime.fromisoformat(members["time"])
        return terminal.line(when, line.level, str(members["event"]), members)
    except (ValueError, LookupError, TypeError, AttributeError):
        return line.text
