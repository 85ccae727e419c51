"""supervisord's event listener: ends everything when a program is given up, restarts hung ones.

supervisord itself stays up when a program is FATAL, and a container that is up but does nothing
helps nobody. The listener leaves a mark in the run folder and ends supervisord; `appliance run`
finds the mark and turns the end into a status that is not 0 (supervisord's own is 0).

A process that is there but does nothing is RUNNING to supervisord. The listener kills it when its
pulse has stood still for too long, and supervisord starts it again. (systemd has a watchdog.) The
broker has no pulse; the janitor's probe watches it.

Started by supervisord only. Its standard input and output are supervisord's event protocol
(http://supervisord.org/events.html). That is a few lines here: supervisor's own `childutils` brings
its web server along, 4 MB in a process that runs for ever.
"""

import os
import signal
import sys
import time
from collections.abc import Mapping
from typing import Final, TextIO

import structlog

from appliance.config import Config
from appliance.machine.pulse import Pulse
from appliance.machine.signs import signs
from appliance.supervision.fatal_mark import FatalMark
from appliance.supervision.hangs import Hangs

#: The one program that must not fail even once: no other one works on an old schema.
_MUST_SUCCEED: Final = "migrate"

_log = structlog.get_logger(__name__)


def judge(event: str, details: Mapping[str, str]) -> FatalMark | None:
    """Return the mark to leave for an event of supervisord, or None if life goes on."""
    program = details.get("processname", "")
    if event == "PROCESS_STATE_FATAL":
        return FatalMark(program, "it failed at each of several starts")
    unexpected = event == "PROCESS_STATE_EXITED" and details.get("expected") == "0"
    if unexpected and program == _MUST_SUCCEED:
        return FatalMark(program, "it failed, so the database can't be used")
    return None


def run(config: Config, pulse: Pulse, commands: TextIO, answers: TextIO) -> None:
    """Follow supervisord's events until it ends."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    supervisord = os.getppid()
    hangs = Hangs(config.hang_timeout)
    stopping = False
    pulse.status("watching")
    pulse.ready()
    while True:
        answers.write("READY\n")
        answers.flush()
        headers = _pairs(commands.readline())
        if not headers:  # supervisord is gone
            return
        payload = commands.read(int(headers["len"]))
        # A stop moves programs that wait for their next start to FATAL; that means nothing.
        stopping = stopping or headers["eventname"] == "SUPERVISOR_STATE_CHANGE_STOPPING"
        mark = judge(headers["eventname"], _pairs(payload))
        if mark and not stopping:
            stopping = True
            _log.critical("appliance ending", program=mark.program, reason=mark.reason)
            mark.leave(config.run_folder)
            os.kill(supervisord, signal.SIGTERM)
        if headers["eventname"].startswith("TICK") and not stopping:
            _restart_hung(config, hangs)
            pulse.beat()
        answers.write("RESULT 2\nOK")
        answers.flush()


def _pairs(text: str) -> dict[str, str]:
    """Read `name:value name:value ...`."""
    return dict(pair.split(":", 1) for pair in text.split())


def _restart_hung(config: Config, hangs: Hangs) -> None:
    hung = hangs.look(time.monotonic(), signs(config))
    if not hung:
        return
    # Imported when needed, because it takes megabytes and this process runs for ever.
    from appliance.supervision import processes  # noqa: PLC0415

    # Asked after the look, so that the pid still belongs to the process that hangs.
    programs = {process.pid: process.name for process in processes.read(config)}
    for sign in hung:
        if sign.pid in programs:
            _log.error(
                "hung program restarted",
                program=programs[sign.pid],
                seconds_without_a_sign=round(sign.seconds_ago),
                last_status=sign.status,
            )
            os.kill(sign.pid, signal.SIGKILL)
