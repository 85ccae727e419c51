"""sd_notify(3): telling systemd the state of the service that it started."""

import os
import socket
import time
from collections.abc import Mapping
from typing import Any, Final

import structlog

#: Seconds between two status texts, which are for people.
_STATUS_PACE: Final = 3.0
#: Seconds for which a datagram may wait for systemd.
_SEND_SECONDS: Final = 1.0

_log: Any = structlog.get_logger(__name__)


class Notifier:
    """Sends a process's state where `NOTIFY_SOCKET` says that systemd listens; else does nothing.

    `environ` holds the variables that systemd sets: NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        watched = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        usec = environ.get("WATCHDOG_USEC", "") if watched else ""
        #: Seconds without a sign after which systemd restarts us; infinite where it doesn't.
        self.watchdog_seconds = int(usec) / 1e6 if usec.isdecimal() and int(usec) else float("inf")
        self._sent = ("", "")  # state, status
        self._sent_at = -_STATUS_PACE

    def send(self, state: str, status: str, *, alive: bool) -> None:
        """Send the lines of sd_notify that are due.

        `state` is `starting`, `ready` or `stopping`; `status` is a line for people; `alive` says
        whether the watchdog can be fed.
        """
        if not self._address:
            return
        lines = ["WATCHDOG=1"] if alive and self.watchdog_seconds < float("inf") else []
        now, changed = time.monotonic(), state != self._sent[0]
        if changed and state != "starting":
            lines.append("READY=1" if state == "ready" else "STOPPING=1")
        sent = self._sent
        if changed or (status != sent[1] and now - self._sent_at >= _STATUS_PACE):
            lines.append(f"STATUS={status}")
            sent = (state, status)
        if lines and self._send("\n".join(lines)) and sent is not self._sent:
            self._sent, self._sent_at = sent, now

    def _send(self, text: str) -> bool:
        """Send a datagram; one that could not be sent is repeated with the next sign."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as link:
                link.settimeout(_SEND_SECONDS)
                link.sendto(text.encode(), self._address)
        except OSError as error:
            _log.debug("systemd not notified", error=str(error))
            return False
        return True
