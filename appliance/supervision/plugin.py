"""What runs inside supervisord itself; `supervisord.conf` names `extend`.

supervisord has no option for these things, which an appliance in a terminal or a container needs:

- all logs on its standard output *and* in files that `supervisorctl tail` can read. (An event
  listener could copy them, but it gets text where programs print bytes, and loses lines when it
  is restarted.)
- programs that end when supervisord is killed. An orphaned broker would hold the data folder and
  its port against the next start.
- log files that may lie on a full disk.
- an end when its terminal is closed: to supervisord a hang-up means "read the configuration anew".
- a broker that hears the stop signal. An Erlang VM that has only just been started loses it, goes
  on to start, and would be killed when its time to stop is over.

It calls the factory of each `[rpcinterface:x]` section with itself, at each start and reload.
"""

import ctypes
import json
import os
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

from appliance.supervision import log_files
from appliance.supervision.output import Lines, Output

#: prctl(2)'s number of "send me this signal when my parent ends".
_PR_SET_PDEATHSIG: Final = 1
_LEVELS: Final = {
    LevelsByName.CRIT: "critical",
    LevelsByName.ERRO: "error",
    LevelsByName.WARN: "warning",
    LevelsByName.INFO: "info",
}
_ENDS: Final = (
    ProcessStateExitedEvent,
    ProcessStateStoppedEvent,
    ProcessStateBackoffEvent,
)


class _NoCalls:
    """An RPC interface without calls, which is what supervisord wants in return."""


def extend(supervisord: Any) -> object:
    """Add what the module's text names to a running supervisord."""
    options = supervisord.options
    as_text = os.environ.get("APPLIANCE_LOG_FORMAT") == "text"
    lines = Lines(Output(1).write, named=as_text)
    subscribe(ProcessLogEvent, lambda event: lines.add(event.process.config.name, event.data))
    for end in _ENDS:
        subscribe(end, lambda event: lines.finish(event.process.config.name))

    log_files.forgive(options.logger.warn)

    def running(_: object) -> None:
        options.logger.addHandler(_Handler(lines, as_text=as_text))
        if sys.stdin is not None and sys.stdin.isatty():
            receive = options.signal_receiver.receive
            signal.signal(signal.SIGHUP, lambda _, frame: receive(signal.SIGTERM, frame))

    subscribe(SupervisorRunningEvent, running)
    subscribe(Tick5Event, lambda _: _stop_again(supervisord))
    options.setpgrp = own_group_ended_with(os.getpid())
    return _NoCalls()


def _stop_again(supervisord: Any) -> None:
    """Send the broker its stop signal again, if it should stop and is still there."""
    for group in supervisord.process_groups.values():
        for process in group.processes.values():
            if process.config.name == "broker" and process.state == ProcessStates.STOPPING:
                process.signal(process.config.stopsignal)


def own_group_ended_with(parent: int) -> Callable[[], None]:
    """Return what a child of supervisord calls first, after fork and before exec.

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

    def __init__(self, lines: Lines, *, as_text: bool) -> None:
        self._lines = lines
        self._as_text = as_text

    def emit(self, record: Any) -> None:
        message = str(record.msg)
        if record.kw:
            message %= record.kw
        level = _LEVELS.get(record.level, "debug")
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        if self._as_text:
            line = f"{now} [{level:<9}] {message}"
        else:
            line = json.dumps(
                {"event": message, "process": "supervisord", "level": level, "time": now}
            )
        self._lines.add("supervisord", f"{line}\n".encode())

    def close(self) -> None:
        """Nothing is open."""

    def reopen(self) -> None:
        """Nothing is open."""
