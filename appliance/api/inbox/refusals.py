"""Logs refused signatures: one line for each address and minute, with how many there were.

Whoever knows an address can send it a thousand wrong signatures a second, so the log tells of the
first one, and then once in a while of how many came since.
"""

import time
from typing import Any, Final

import structlog

from appliance.auth.signatures.verdict import Verdict

#: Seconds between two lines about one address.
_EVERY_SECONDS: Final = 60.0

_log: Any = structlog.get_logger(__name__)


class RefusalLog:
    """Used on the event loop. There are never more entries than addresses were made.

    `kept` is whether the messages are quarantined, and not only refused.
    """

    def __init__(self, *, kept: bool = False) -> None:
        self._kept = kept
        self._told: dict[str, float] = {}
        self._untold: dict[str, int] = {}

    def note(self, inbox: str, verdict: Verdict, remote: str) -> None:
        """Note that a message to this inbox was refused."""
        now = time.monotonic()
        count = self._untold.get(inbox, 0) + 1
        if now - self._told.get(inbox, -_EVERY_SECONDS) < _EVERY_SECONDS:
            self._untold[inbox] = count
            return
        self._told[inbox] = now
        self._untold[inbox] = 0
        _log.warning(
            "message quarantined" if self._kept else "signature refused",
            inbox=inbox,
            reason=verdict.reason,
            detail=verdict.explanation,
            remote=remote,
            count=count,
        )
