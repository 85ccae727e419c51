"""The process of our own RabbitMQ node, for whoever must end it from outside.

The node's lock says that it runs, the pid in it which process it is. A pid alone could be another
program's by now; the lock is given up by the kernel when its holder ends.
"""

import fcntl
import os
import signal
from pathlib import Path

from appliance.broker.node.files import Layout
from appliance.config import Config
from appliance.errors import NodeError


def note(lock: int) -> None:
    """Write this process's pid into the lock, a descriptor that is locked."""
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)


def kill(config: Config) -> int:
    """Kill the node that runs on this data folder and return its pid. Raises NodeError."""
    layout = Layout(config.data / "broker")
    try:
        pid = _holder(layout.lock)
        process = os.pidfd_open(pid)
        try:
            # Looked at again while the handle stands for one process, whoever has the pid later.
            if _holder(layout.lock) != pid or not _lives_in(pid, layout.home):
                raise NodeError(f"process {pid} is not the node")
            signal.pidfd_send_signal(process, signal.SIGKILL)
        finally:
            os.close(process)
    except OSError as error:
        raise NodeError(f"the node's process can't be ended: {error}") from error
    return pid


def _holder(lock: Path) -> int:
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            text = file.read(20).strip()
            if text.isdigit():
                return int(text)
            raise NodeError("its lock does not say which process it is") from None
    raise NodeError("no node runs")


def _lives_in(pid: int, folder: Path) -> bool:
    """Whether the process works in the folder, as the node does; where that may be seen."""
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == folder.resolve()
    except PermissionError:
        return True
    except OSError:  # hidden altogether, or gone: the lock has been looked at
        return True
