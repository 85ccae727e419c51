"""The appliance's own code within supervisord; `supervisord.conf` names `extend`.

supervisord has no option for these things, which an appliance in a terminal or a container needs:

- all logs on its standard output *and* in files that `supervisorctl tail` can read. (An event
  listener could copy them, but it gets text where programs print bytes, and loses lines when it
  is restarted.)
- programs that end when supervisord is killed. An orphaned broker would hold the data folder and
  its port against the next start.
- log files that can lie on a full disk, and that can be shown whatever bytes are in them.
- a notice when the appliance is ready.
- an end when its terminal is closed: to supervisord a hang-up means "read the configuration anew".
- programs that start at once. The first turn of supervisord's loop waits a second before it starts
  any.
- programs that share the memory of their code (see `forked_programs`).
- a broker that hears the stop signal. An Erlang VM that has only just been started loses it, goes
  on to start, and would be killed when its time to stop is over.

It calls the factory of each `[rpcinterface:x]` section with itself, at each start and reload.
"""

import ctypes
import json
import os
import re
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from supervisor.events import (
    ProcessLogEvent,
    ProcessStateBackoffEvent,
    ProcessStateExitedEvent,
    ProcessStateStoppedEvent,
    SupervisorRunningEvent,
    Tick5Event,
    subscribe,
)
from supervisor.loggers import LevelsByName
from supervisor.states import ProcessStates

from appliance.logs import terminal
from appliance.supervision import forked_programs, log_files, ready
from appliance.supervision.output import Lines, Output, Screen

#: prctl(2)'s number of "send me this signal when my parent ends".
_PR_SET_PDEATHSIG: Final = 1
_LEVELS: Final = {
    LevelsByName.CRIT: "critical",
    LevelsByName.ERRO: "error",
    LevelsByName.WARN: "warning",
    LevelsByName.INFO: "info",
}
#: supervisord's messages -> how a terminal shows them; an empty text is not shown. It calls an end
#: by Ctrl-C a warning, and says twice that a program runs.
_REWORDED: Final = (
    (re.compile(r"spawned: '(.+)' with pid (\d+)"), r"\1 started, pid \2"),
    (re.compile(r"success: (\S+) entered RUNNING state.*"), ""),
    (re.compile(r"exited: (\S+) \(exit status (\d+); expected\)"), r"\1 ended, status \2"),
    (re.compile(r"stopped: (\S+) \((.*)\)"), r"\1 stopped, \2"),
    (re.compile(r"waiting for (.*) to (?:die|stop)"), r"stopping \1"),
    (re.compile(r"received (SIG\w+) indicating exit request"), r"stopping everything: \1"),
)
_ENDS: Final = (
    ProcessStateExitedEvent,
    ProcessStateStoppedEvent,
    ProcessStateBackoffEvent,
)


class _NoCalls:
    """An RPC interface without calls; supervisord expects one in return."""


def extend(supervisord: Any) -> object:
    """Extend a running supervisord by the things that the module's docstring lists."""
    options = supervisord.options
    log_format = os.environ.get("APPLIANCE_LOG_FORMAT", "")
    screen = Screen(1, os.environ) if log_format == "terminal" and os.isatty(1) else None
    lines = Lines(Output(1).write, named=log_format in ("text", "terminal"), screen=screen)
    subscribe(ProcessLogEvent, lambda event: lines.add(event.process.config.name, event.data))
    for end in _ENDS:
        subscribe(end, lambda event: lines.finish(event.process.config.name))

    log_files.forgive(options.logger.warn)
    log_files.answer_with_text()
    if ready.notice:
        _look_at_each_turn(supervisord, ready.notice.look)

    def running(_: object) -> None:
        options.logger.addHandler(_Handler(lines, log_format))
        if sys.stdin is not None and sys.stdin.isatty():
            receive = options.signal_receiver.receive
            signal.signal(signal.SIGHUP, lambda _, frame: receive(signal.SIGTERM, frame))
        groups = sorted(supervisord.process_groups.values())
        if forked_programs.programs:
            # The broker takes the longest to start and shares nothing.
            for group in groups:
                if group.config.name == "broker":
                    group.transition()
            forked_programs.programs.load()
        for group in groups:
            group.transition()

    subscribe(SupervisorRunningEvent, running)
    subscribe(Tick5Event, lambda _: _stop_again(supervisord))
    if forked_programs.programs:
        forked_programs.programs.take_over(options)
    options.setpgrp = own_group_ended_with(os.getpid())
    return _NoCalls()


def _look_at_each_turn(supervisord: Any, look: Callable[[], None]) -> None:
    """Call `look` in each turn of supervisord's loop, which takes a second at most."""
    tick = supervisord.tick

    def tick_and_look(now: float | None = None) -> None:
        tick(now)
        look()

    supervisord.tick = tick_and_look


def _stop_again(supervisord: Any) -> None:
    """Send the broker its stop signal again, if it should stop and is still there."""
    for group in supervisord.process_groups.values():
        for process in group.processes.values():
            if process.config.name == "broker" and process.state == ProcessStates.STOPPING:
                process.signal(process.config.stopsignal)


def own_group_ended_with(parent: int) -> Callable[[], None]:
    """Return the function that a child of supervisord calls first, after fork and before exec.

    A process group of its own keeps a terminal's Ctrl-C from it; the signal on the parent's death
    stays set across exec.
    """
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def prepare() -> None:
        os.setpgrp()
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it ended before the line above
            os._exit(1)

    return prepare


class _Handler:
    """Puts supervisord's own log lines among those of the programs, in the same form."""

    level = LevelsByName.INFO

    def __init__(self, lines: Lines, log_format: str) -> None:
        self._lines = lines
        self._log_format = log_format

    def emit(self, record: Any) -> None:
        message = str(record.msg)
        if record.kw:
            message %= record.kw
        level = _LEVELS.get(record.level, "debug")
        now = datetime.now(UTC)
        if self._log_format == "terminal":
            message, level = _reworded(message, level)
            line = terminal.line(now, level, message, {}) if message else ""
        elif self._log_format == "text":
            line = f"{_iso(now)} [{level:<9}] {message}"
        else:
            line = json.dumps(
                {"event": message, "process": "supervisord", "level": level, "time": _iso(now)}
            )
        if line:
            self._lines.add("supervisord", f"{line}\n".encode())

    def close(self) -> None:
        """Nothing is open."""

    def reopen(self) -> None:
        """Nothing is open."""


def _iso(now: datetime) -> str:
    return now.isoformat().replace("+00:00", "Z")


def _reworded(message: str, level: str) -> tuple[str, str]:
    """Return supervisord's message and level as a terminal shows them."""
    for pattern, words in _REWORDED:
        if match := pattern.fullmatch(message):
            return match.expand(words), "info"
    return message, level
