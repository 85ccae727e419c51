"""supervisord's event listener: ends what is given up, restarts what hangs.

supervisord itself stays up when a program is FATAL, and a container that is up but does nothing
helps nobody. The listener leaves a mark in the run folder and ends supervisord; `appliance run`
finds the mark and turns the end into a status that is not 0 (supervisord's own is 0).

A process that is there but does nothing is RUNNING to supervisord. The listener kills it when its
pulse has stood still for too long, and supervisord starts it again. (systemd has a watchdog.) The
broker has no pulse; the janitor's probe looks after it.

Started by supervisord only. Its standard input and output are supervisord's event protocol.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO

import structlog
from supervisor.childutils import get_headers
from supervisor.childutils import listener as protocol

from appliance.config import Config
from appliance.pulse import Pulse, signs
from appliance.supervision import processes
from appliance.supervision.hangs import Hangs

#: The one program that must not fail even once: no other one works on an old schema.
_MUST_SUCCEED: Final = "migrate"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Mark:
    """Which program ended the appliance, and how; kept in the run folder."""

    program: str
    reason: str

    @staticmethod
    def path(run_folder: Path) -> Path:
        """Path of the mark's file."""
        return run_folder / "fatal"

    def leave(self, run_folder: Path) -> None:
        """Write the mark."""
        self.path(run_folder).write_text(
            json.dumps({"program": self.program, "reason": self.reason}) + "\n"
        )

    @classmethod
    def find(cls, run_folder: Path) -> "Mark | None":
        """Return the mark, or None where none was left."""
        try:
            return cls(**json.loads(cls.path(run_folder).read_text()))
        except FileNotFoundError:
            return None
        except (OSError, TypeError, ValueError) as error:
            return cls("a program", f"can't be read from {cls.path(run_folder)}: {error}")


def judge(event: str, details: Mapping[str, str]) -> Mark | None:
    """Return the mark to leave for an event of supervisord, or None if life goes on."""
    program = details.get("processname", "")
    if event == "PROCESS_STATE_FATAL":
        return Mark(program, "it failed at each of several starts")
    unexpected = event == "PROCESS_STATE_EXITED" and details.get("expected") == "0"
    if unexpected and program == _MUST_SUCCEED:
        return Mark(program, "it failed, so the database can't be used")
    return None


def run(
    config: Config, pulse: Pulse, commands: TextIO = sys.stdin, answers: TextIO = sys.stdout
) -> None:
    """Follow supervisord's events until it ends."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    supervisord = os.getppid()
    hangs = Hangs(config.hang_timeout)
    stopping = False
    pulse.status("watching")
    pulse.ready()
    while True:
        try:
            headers, payload = protocol.wait(commands, answers)
        except KeyError:  # an empty line of headers: supervisord is gone
            return
        # A stop moves programs that wait for their next start to FATAL; that means nothing.
        stopping = stopping or headers["eventname"] == "SUPERVISOR_STATE_CHANGE_STOPPING"
        mark = judge(headers["eventname"], get_headers(payload))
        if mark and not stopping:
            stopping = True
            _log.critical("ending everything", program=mark.program, reason=mark.reason)
            mark.leave(config.run_folder)
            os.kill(supervisord, signal.SIGTERM)
        if headers["eventname"].startswith("TICK") and not stopping:
            _restart_hung(config, hangs)
            pulse.beat()
        protocol.ok(answers)


def _restart_hung(config: Config, hangs: Hangs) -> None:
    hung = hangs.look(time.monotonic(), signs(config))
    if not hung:
        return
    # Asked now, so that the pid is still that of the process that hangs.
    programs = {process.pid: process.name for process in processes.read(config)}
    for sign in hung:
        if sign.pid in programs:
            _log.error(
                "restarting what hangs",
                program=programs[sign.pid],
                seconds_without_a_sign=round(sign.seconds_ago),
                last_said=sign.status,
            )
            os.kill(sign.pid, signal.SIGKILL)
