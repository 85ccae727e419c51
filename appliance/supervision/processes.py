"""The states of the appliance's processes, asked of the supervisor that keeps them running.

That is supervisord where one serves the run folder's socket; else systemd, if it started this
process. The answer has the same form and words.
"""

import os

from appliance.config import Config
from appliance.supervision import supervisord, systemd
from appliance.supervision.state import ProcessState


def read(config: Config) -> list[ProcessState]:
    """Ask supervisord, else systemd; the list is empty where neither runs or answers."""
    states = supervisord.read(config)
    if states is None:
        # systemd sets this variable in each unit that it starts; the others are none of its units.
        states = systemd.read() if "INVOCATION_ID" in os.environ else []
    return states
