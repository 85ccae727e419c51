"""The states of the appliance's processes, asked of whoever keeps them running.

That is supervisord, over its Unix socket, where it serves one; else systemd, if this process is one
of its services or its administrator's (see `units`). The answer has the same form and words.
"""

import http.client
import os
import socket
import xmlrpc.client
from pathlib import Path
from typing import Any, Final

import structlog
from supervisor.xmlrpc import SupervisorTransport

from appliance.config import Config
from appliance.supervision import systemd
from appliance.supervision.state import ProcessState

#: supervisord answers within milliseconds; a status page must not wait for one that hangs.
_TIMEOUT_SECONDS: Final = 2.0

_log = structlog.get_logger(__name__)


def read(config: Config) -> list[ProcessState]:
    """Ask supervisord, else systemd; the list is empty where neither runs or answers."""
    found = _ask_supervisord(config)
    if found is None:
        # Set by systemd in what it starts; what it has not started is none of its units.
        found = systemd.read() if "INVOCATION_ID" in os.environ else []
    return found


def _ask_supervisord(config: Config) -> list[ProcessState] | None:
    """Return what supervisord says, or None where none runs."""
    path = config.supervisor_socket
    try:
        with xmlrpc.client.ServerProxy("http://localhost", transport=_transport(path)) as server:
            found: Any = server.supervisor.getAllProcessInfo()
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    except (OSError, http.client.HTTPException, xmlrpc.client.Error) as error:
        _log.warning("supervisord does not answer", socket=str(path), error=str(error))
        return []
    return [_state(info) for info in found]


def _transport(path: Path) -> Any:
    def connection() -> http.client.HTTPConnection:
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            link.settimeout(_TIMEOUT_SECONDS)
            link.connect(str(path))
        except OSError:
            link.close()
            raise
        made = http.client.HTTPConnection("localhost")
        made.sock = link
        return made

    # supervisor's own transport connects without a deadline.
    transport = SupervisorTransport(serverurl=f"unix://{path}")
    transport._get_connection = connection  # noqa: SLF001  # its one seam
    return transport


def _state(info: dict[str, Any]) -> ProcessState:
    name, group = info["name"], info["group"]
    running = info["statename"] in ("STARTING", "RUNNING", "STOPPING")
    return ProcessState(
        name=name if name == group else f"{group}:{name}",
        state=info["statename"],
        pid=info["pid"] or None,
        uptime_seconds=float(max(0, info["now"] - info["start"])) if running else None,
        detail=info["spawnerr"] or info["description"],
    )
