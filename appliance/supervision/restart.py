"""Has a process of the appliance end in an orderly way, so that its supervisor starts it again.

supervisord and systemd both start every one of ours again that ends by itself. So to restart one is
to tell it to end, which its own user may do: no rights of the supervisor are needed, and the API
can restart itself.
"""

import os
import signal
from typing import Final

from appliance.config import Config
from appliance.errors import RestartError
from appliance.supervision import processes
from appliance.supervision.state import ProcessState

#: Programs that run once and end.
_ONCE: Final = ("migrate", "backup")


def restart(config: Config, name: str) -> bool:
    """Tell the process `name` to end; False where there is none of this name.

    Raises RestartError, in words, where it is not one that runs, or belongs to another user.
    """
    found = next((state for state in processes.read(config) if state.name == name), None)
    if found is None:
        return False
    if name in _ONCE:
        raise RestartError(f"{name} is not restarted: it runs once and ends")
    if found.state != "RUNNING" or not found.pid:
        raise RestartError(f"{name} is {found.state.lower()}, so it can't be restarted now")
    try:
        os.kill(found.pid, signal.SIGTERM)
    except ProcessLookupError as error:
        raise RestartError(f"{name} has just ended by itself") from error
    except PermissionError as error:
        raise RestartError(
            f"the API may not restart {name}; on the machine: {_by_hand(found)}"
        ) from error
    return True


def _by_hand(process: ProcessState) -> str:
    return f"sudo systemctl restart appliance-{process.name}"
