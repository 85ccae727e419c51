"""The states of the appliance's processes, asked of supervisord over its Unix socket."""

import http.client
import socket
import xmlrpc.client
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog
from supervisor.xmlrpc import SupervisorTransport

from appliance.config import Config

#: supervisord answers within milliseconds; a status page must not wait for one that hangs.
_TIMEOUT_SECONDS: Final = 2.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ProcessState:
    """One process: `state` is supervisord's word (RUNNING, EXITED, BACKOFF, ...)."""

    name: str
    state: str
    pid: int | None
    uptime_seconds: float | None
    detail: str


def socket_path(config: Config) -> Path:
    """Path of supervisord's socket."""
    return config.run_folder / "supervisor.sock"


def read(config: Config) -> list[ProcessState]:
    """Ask supervisord; the list is empty where none runs or answers."""
    path = socket_path(config)
    try:
        with xmlrpc.client.ServerProxy("http://localhost", transport=_transport(path)) as server:
            found: Any = server.supervisor.getAllProcessInfo()
    except (FileNotFoundError, ConnectionRefusedError):
        return []
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
