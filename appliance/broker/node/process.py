"""Ends the process of our own RabbitMQ node from outside.

The node's lock shows that the node runs; the pid in the lock shows which process it is. A pid
alone could be another program's by now; the kernel gives a lock up when its holder ends.
"""

import os
import signal
from pathlib import Path

from appliance.broker.node.layout import Layout
from appliance.config import Config
from appliance.errors import NodeError
from appliance.machine import locks


def kill(config: Config) -> int:
    """Kill the node that runs on this data folder and return its pid. Raises NodeError."""
    layout = Layout(config.broker_home)
    try:
        pid = _holder(layout.lock)
        process = os.pidfd_open(pid)
        try:
            # Read again while the handle stands for one process, whoever has the pid later.
            if _holder(layout.lock) != pid or not _works_in(pid, layout.home):
                raise NodeError(f"process {pid} is not the node")
            signal.pidfd_send_signal(process, signal.SIGKILL)
        finally:
            os.close(process)
    except OSError as error:
        raise NodeError(f"the node's process can't be ended: {error}") from error
    return pid


def _holder(lock: Path) -> int:
    try:
        pid = locks.holder(lock)
    except ValueError:
        raise NodeError("its lock does not say which process it is") from None
    if pid is None:
        raise NodeError("no node runs")
    return pid


def _works_in(pid: int, folder: Path) -> bool:
    """Whether the process works in the folder, as the node does; True where that can't be seen."""
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == folder.resolve()
    except OSError:  # hidden from us, or the process has ended: the lock shows enough
        return True
