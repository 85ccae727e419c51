"""The lines that say, once, that the appliance is ready; `appliance run` ends its start with them.

supervisord looks for them about twice a second, by the signs of the API's processes, each of which
knows whether a message sent to it now would be stored.
"""

import sys
import time
from collections.abc import Callable
from typing import Final

from appliance.config import Config
from appliance.machine.signs import READY, signs

#: Seconds between two looks.
_PACE: Final = 0.5


class ReadyNotice:
    """Writes the notice once; `began` is the monotonic time at which the start began."""

    def __init__(
        self,
        config: Config,
        write: Callable[[bytes], object],
        *,
        began: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._write = write
        self._began = began
        self._clock = clock
        self._next_look = began
        self._written = False

    def look(self) -> None:
        """Write the notice if the appliance has become ready. Costs nothing once it is written."""
        now = self._clock()
        if self._written or now < self._next_look:
            return
        self._next_look = now + _PACE
        living = signs(self._config)
        ready = sum(sign.process == "api" and bool(sign.facts.get(READY)) for sign in living)
        if ready >= max(1, self._config.api_processes):
            self._written = True
            self._write(self._text(now - self._began).encode())

    def _text(self, seconds: float) -> str:
        url = self._config.own_url
        lines = [
            f"Ready after {seconds:.0f} s.",
            f"  address  {url}",
            f"  console  {url}/console/ (sign in with the token, or by a link: appliance open)",
        ]
        if sys.stdin is not None and sys.stdin.isatty():
            lines.append("  stop     Ctrl-C; every message that was answered 202 is kept")
        return "\n".join(["", *lines, "", ""])


#: Set by the launcher, in the process that becomes supervisord; None in any other one.
notice: ReadyNotice | None = None
