"""docs/log-events.md has every event that the code logs from level info up, and no other.

An event is the first argument of a call such as `_log.warning("broker unavailable")`, or one of the
two that a `Complaint` is made with.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.machine.complaint import Complaint

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "appliance"
#: The one module whose events are those of whoever made the complaint.
COMPLAINT = PACKAGE / "machine" / "complaint.py"
#: Method of a logger -> level. `debug` is for developers, and not in the page.
LEVELS = {
    "info": "info",
    "warning": "warning",
    "error": "error",
    "exception": "error",
    "critical": "critical",
}


def is_logger(node: ast.expr) -> bool:
    """Whether this is `_log`, `log`, `self._log` or `structlog.get_logger()`."""
    if isinstance(node, ast.Call):
        return getattr(node.func, "attr", getattr(node.func, "id", "")) == "get_logger"
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
    return name in {"log", "_log"}


def calls() -> Iterator[tuple[Path, ast.Call, str]]:
    """Every call that logs, with its file and the method's name; `Complaint` for a complaint."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if path == COMPLAINT:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            if isinstance(node.func, ast.Name) and node.func.id == "Complaint":
                yield path, node, "Complaint"
            elif (
                isinstance(node.func, ast.Attribute)
                and node.func.attr in {*LEVELS, "debug"}
                and is_logger(node.func.value)
            ):
                yield path, node, node.func.attr


def argument(call: ast.Call, name: str, place: int) -> ast.expr | None:
    """Return an argument that is given by its place or by its name."""
    if len(call.args) > place:
        return call.args[place]
    return next((keyword.value for keyword in call.keywords if keyword.arg == name), None)


def events(call: ast.Call, method: str) -> Iterator[tuple[ast.expr | None, str]]:
    """Every event of a call as it stands in the code, with its level."""
    if method == "Complaint":
        level = argument(call, "level", 3)
        default = inspect.signature(Complaint).parameters["level"].default
        yield (
            argument(call, "failing", 1),
            level.value if isinstance(level, ast.Constant) else default,
        )
        yield argument(call, "works", 2), "info"
        return
    event = argument(call, "event", 0)
    for either in (event.body, event.orelse) if isinstance(event, ast.IfExp) else (event,):
        yield either, LEVELS.get(method, method)


def logged() -> dict[str, set[str]]:
    """Every literal event of the code from level info up, with its levels."""
    found: dict[str, set[str]] = {}
    for _, call, method in calls():
        for event, level in events(call, method):
            if isinstance(event, ast.Constant) and level != "debug":
                found.setdefault(str(event.value), set()).add(level)
    return found


def documented() -> dict[str, set[str]]:
    """Every event of the page, with its levels."""
    rows = re.findall(
        r"^\| `([^`]+)` \| ([a-z, ]+) \| .+ \| .+ \|$",
        (ROOT / "docs" / "log-events.md").read_text(),
        re.MULTILINE,
    )
    assert len(rows) == len({event for event, _ in rows}), "an event has two rows"
    return {event: set(levels.split(", ")) for event, levels in rows}


def test_the_log_has_no_event_that_the_page_lacks():
    assert set(logged()) - set(documented()) == set()


def test_the_page_has_no_event_that_the_code_does_not_log():
    assert set(documented()) - set(logged()) == set()


def test_the_page_names_each_events_level():
    code = logged()
    wrong = {e: levels for e, levels in documented().items() if e in code and levels != code[e]}
    assert wrong == {}, {event: code[event] for event in wrong}


def test_the_pages_events_are_in_order():
    assert list(documented()) == sorted(documented())


@pytest.mark.parametrize(
    ("path", "call", "method"),
    [pytest.param(p, c, m, id=f"{p.relative_to(PACKAGE)}:{c.lineno}") for p, c, m in calls()],
)
def test_an_event_is_a_short_phrase_that_stands_in_the_code(path, call, method):
    for event, _ in events(call, method):
        assert isinstance(event, ast.Constant), f"{path}:{call.lineno}: put values into fields"
        assert re.fullmatch(r"[a-z]+(?:[ -][a-z]+){0,6}", event.value), event.value
