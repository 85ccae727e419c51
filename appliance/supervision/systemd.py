"""The states of the appliance's services on a host, asked of systemd.

`systemctl show` asks systemd over D-Bus, which any user may read. So it works within the API's own
sandbox as well, which leaves it nothing but its user, the socket and the reading.
"""

import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import structlog

from appliance.machine.complaint import Complaint
from appliance.supervision.state import ProcessState

#: Says that systemd is this machine's first process (sd_booted(3)).
_BOOTED: Final = Path("/run/systemd/system")
_PROPERTIES: Final = (
    "Id", "ActiveState", "SubState", "MainPID", "ExecMainStartTimestampMonotonic",
    "StatusText", "Result", "NRestarts",
)  # fmt: skip
#: It answers within 30 ms; a status page must not wait for one that hangs.
_TIMEOUT_SECONDS: Final = 2.0
#: systemd's words, `ActiveState/SubState` or the first alone -> supervisord's, which are ours.
_STATES: Final = {
    "active/exited": "EXITED",
    "active": "RUNNING",
    "activating/auto-restart": "BACKOFF",
    "activating": "STARTING",
    "deactivating": "STOPPING",
    "reloading": "RUNNING",
    "inactive": "STOPPED",
    "failed": "FATAL",
}
_ALIVE: Final = ("STARTING", "RUNNING", "STOPPING")

_complaint: Final = Complaint(
    structlog.get_logger(__name__), "systemd unreachable", "systemd reachable again"
)


def read() -> list[ProcessState]:
    """Ask systemd; the list is empty where it isn't there or doesn't answer."""
    if not _BOOTED.is_dir():
        return []
    command = ["systemctl", "show", f"--property={','.join(_PROPERTIES)}", "appliance-*.service"]
    try:
        shown = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        _complaint.fails(error=str(error))
        return []
    _complaint.works()
    return parse(shown.stdout, time.monotonic())


def parse(text: str, now: float) -> list[ProcessState]:
    """Return the states in the output of `systemctl show`: NAME=VALUE lines, blank ones between.

    `now` is the monotonic clock, in seconds, which systemd counts its times by.
    """
    blocks = [
        dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        for block in text.split("\n\n")
    ]
    # A unit that is not wanted here (`wanted`) is no process that is missing.
    units = [b for b in blocks if b.get("Id") and b.get("Result") != "exec-condition"]
    return sorted((_state(unit, now) for unit in units), key=lambda state: state.name)


def _state(unit: Mapping[str, str], now: float) -> ProcessState:
    active = unit.get("ActiveState", "")
    detailed = f"{active}/{unit.get('SubState', '')}"
    state = _STATES.get(detailed) or _STATES.get(active) or "UNKNOWN"
    started = _number(unit, "ExecMainStartTimestampMonotonic") / 1e6
    return ProcessState(
        name=unit["Id"].removeprefix("appliance-").removesuffix(".service"),
        state=state,
        pid=_number(unit, "MainPID") or None,
        uptime_seconds=max(0.0, now - started) if started and state in _ALIVE else None,
        detail=_detail(unit, state),
    )


def _detail(unit: Mapping[str, str], state: str) -> str:
    """Return the status text of a living service, else how it ended."""
    if state in _ALIVE and unit.get("StatusText"):
        return unit["StatusText"]
    restarts = _number(unit, "NRestarts")
    parts = [f"last result: {unit['Result']}"] if unit.get("Result") else []
    parts += [f"restarted {restarts} time{'s' * (restarts != 1)}"] if restarts else []
    return ", ".join(parts)


def _number(unit: Mapping[str, str], name: str) -> int:
    value = unit.get(name, "")
    return int(value) if value.isdecimal() else 0
