"""Log lines for a terminal."""

import subprocess
import sys
from datetime import UTC, datetime

from appliance.logs import terminal

NOW = datetime(2026, 1, 31, 18, 37, 10, 77414, UTC)

SPEAK = """
import structlog
from appliance import config
from appliance.logs import setup
setup.configure(config.load({"APPLIANCE_LOG_FORMAT": "terminal"}), "api")
log = structlog.get_logger("appliance.somewhere")
log.info("listening", address="127.0.0.1:8080")
log.warning("broker unavailable", reason="connection refused")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("request failed")
"""


def test_a_line_has_a_short_time_the_event_and_its_values():
    values = {"event": "x", "process": "api", "logger": "l", "address": "h:1", "reason": "a b"}
    line = terminal.line(NOW, "info", "listening", values)
    assert line == "18:37:10 listening address=h:1 reason='a b'"


def test_a_level_above_info_is_named():
    assert terminal.line(NOW, "error", "no", {}) == "18:37:10 ERROR no"
    assert terminal.line(NOW, "debug", "no", {"empty": ""}) == "18:37:10 no empty=''"


def test_a_process_logs_such_lines_with_its_tracebacks():
    done = subprocess.run([sys.executable, "-c", SPEAK], capture_output=True, text=True, check=True)
    lines = done.stderr.splitlines()
    assert [line[8:] for line in lines[:3]] == [
        " listening address=127.0.0.1:8080",
        " WARNING broker unavailable reason='connection refused'",
        " ERROR request failed",
    ]
    assert lines[3] == "Traceback (most recent call last):"
    assert lines[-1] == "ZeroDivisionError: division by zero"
