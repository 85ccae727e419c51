"""Log lines for systemd's journal, with their level and each value as a field of its own.

The protocol is the journal's own (https://systemd.io/JOURNAL_NATIVE_PROTOCOL): one datagram a line.
So `journalctl -p warning` shows the warnings, and `journalctl APPLIANCE_TOPIC=orders` shows the
lines about that topic.
"""

import logging
import os
import re
import socket
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

_SOCKET: Final = "/run/systemd/journal/socket"
#: Our levels -> syslog's priorities.
_PRIORITIES: Final = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
#: Values that become no field of their own: another field, or the journal itself, has them.
_NO_FIELDS: Final = frozenset({"event", "level", "logger", "process", "time", "exception"})


def connected(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this process's standard error goes to the journal (systemd.exec(5))."""
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def render(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    """Return one line's datagram: structlog's last processor. Bytes are kept as surrogates."""
    values = {name: str(value) for name, value in event.items() if name not in _NO_FIELDS}
    words = [str(event.get("event", "")), *(f"{name}={value}" for name, value in values.items())]
    message = " ".join(words)
    if event.get("exception"):
        message += f"\n{event['exception']}"
    fields = {
        "MESSAGE": message,
        "PRIORITY": str(_PRIORITIES.get(str(event.get("level")), 6)),
        "SYSLOG_IDENTIFIER": f"appliance-{event.get('process', '')}".rstrip("-"),
        "APPLIANCE_LOGGER": str(event.get("logger", "")),
    }
    for name, value in values.items():
        fields[f"APPLIANCE_{re.sub('[^A-Z0-9_]', '_', name.upper())}"] = value
    return b"".join(_field(*field) for field in fields.items()).decode(errors="surrogateescape")


def _field(name: str, value: str) -> bytes:
    content = value.encode(errors="replace")
    if b"\n" not in content:
        return b"%s=%s\n" % (name.encode(), content)
    return b"%s\n%s%s\n" % (name.encode(), len(content).to_bytes(8, "little"), content)


class JournalHandler(logging.Handler):
    """Sends log lines to the journal, and to standard error those that the journal refuses."""

    def __init__(self, address: str = _SOCKET) -> None:
        super().__init__()
        self._address = address
        self._link = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def emit(self, record: logging.LogRecord) -> None:
        """Send one line."""
        try:
            datagram = self.format(record).encode(errors="surrogateescape")
            self._link.sendto(datagram, self._address)
        except OSError:  # too large for a datagram, or the journal is being restarted
            sys.stderr.write(f"{record.getMessage()}\n")

    def close(self) -> None:
        """Close the socket."""
        self._link.close()
        super().close()
