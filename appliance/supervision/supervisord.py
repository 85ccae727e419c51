"""The states of the programs of supervisord, asked over its Unix socket."""

import http.client
import socket
import xmlrpc.client
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import structlog
from supervisor.xmlrpc import SupervisorTransport

from appliance.config import Config
from appliance.machine.complaint import Complaint
from appliance.supervision.state import ProcessState

#: supervisord answers within milliseconds; a status page must not wait for one that hangs.
_TIMEOUT_SECONDS: Final = 2.0

_complaint: Final = Complaint(
    structlog.get_logger(__name__), "supervisord unreachable", "supervisord reachable again"
)


def read(config: Config) -> list[ProcessState] | None:
    """Ask supervisord; None where none runs, an empty list where it doesn't answer."""
    path = config.supervisor_socket
    try:
        with xmlrpc.client.ServerProxy("http://localhost", transport=_transport(path)) as server:
            programs: Any = server.supervisor.getAllProcessInfo()
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    except (OSError, http.client.HTTPException, xmlrpc.client.Error) as error:
        _complaint.fails(socket=str(path), error=str(error))
        return []
    _complaint.works(socket=str(path))
    return [_state(info) for info in programs]


def _transport(path: Path) -> Any:
    def connect() -> http.client.HTTPConnection:
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            link.settimeout(_TIMEOUT_SECONDS)
            link.connect(str(path))
        except OSError:
            link.close()
            raise
        connection = http.client.HTTPConnection("localhost")
        connection.sock = link
        return connection

    # supervisor's own transport connects without a deadline.
    transport = SupervisorTransport(serverurl=f"unix://{path}")
    transport._get_connection = connect  # noqa: SLF001  # its one seam
    return transport


def _state(info: dict[str, Any]) -> ProcessState:
    name, group = info["name"], info["group"]
    alive = info["statename"] in ("STARTING", "RUNNING", "STOPPING")
    return ProcessState(
        name=name if name == group else f"{group}:{name}",
        state=info["statename"],
        pid=info["pid"] or None,
        uptime_seconds=float(max(0, info["now"] - info["start"])) if alive else None,
        detail=info["spawnerr"] or _detail(info, alive=alive),
    )


def _detail(info: dict[str, Any], *, alive: bool) -> str:
    """Return supervisord's description; for a program that ended, its end in UTC."""
    if alive or not info["stop"]:
        return str(info["description"])
    ended = datetime.fromtimestamp(info["stop"], UTC)
    return f"ended at {ended:%Y-%m-%dT%H:%M:%SZ}"
