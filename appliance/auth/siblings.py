"""The API's other processes on this host: whether they know of a change of who may do what.

Each looks for changes by itself, and tells by its sign of life which version it goes by. So whoever
makes a change can wait for the others, and a client that was told of it meets it at each of them.
"""

import os
import time
from typing import Final

from appliance.config import Config
from appliance.machine.pulse import Pulse
from appliance.machine.signs import Sign, signs

#: The fact of a sign: the version that the process goes by.
ACCESS_FACT: Final = "access"
#: Seconds between two looks, and those after which a process that does not follow is left behind.
_PAUSE: Final = 0.02
_PATIENCE: Final = 2.0


class Siblings:
    """One for each of several API processes; used by any thread."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._pulse: Pulse | None = None
        self._told: int | None = None

    def begin(self, pulse: Pulse) -> None:
        """Tell by this pulse from now on."""
        self._pulse = pulse
        if self._told is not None:
            pulse.tell(ACCESS_FACT, self._told)

    def tell(self, version: int) -> None:
        """Tell the others that this process goes by this version."""
        if version != self._told:
            self._told = version
            if self._pulse is not None:
                self._pulse.tell(ACCESS_FACT, version)

    def wait_for(self, version: int) -> bool:
        """Wait until the others go by this version or a later one; whether all of them do.

        One that has not told any yet is starting: it begins with the newest.
        """
        end = time.monotonic() + _PATIENCE
        while any(self._is_behind(sign, version) for sign in signs(self._config)):
            if time.monotonic() >= end:
                return False
            time.sleep(_PAUSE)
        return True

    @staticmethod
    def _is_behind(sign: Sign, version: int) -> bool:
        if sign.process != "api" or sign.pid == os.getpid() or sign.state == "stopping":
            return False
        known = sign.facts.get(ACCESS_FACT)
        return isinstance(known, int) and known < version
