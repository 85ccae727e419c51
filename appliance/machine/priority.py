"""The lowest priority for a thread: it is served when nobody else wants processor or disk."""

import contextlib
import ctypes
import os
import platform
import threading
from typing import Final

#: Number of the system call ioprio_set(2), which the C library has no function for.
_IOPRIO_SET: Final = {"x86_64": 251, "aarch64": 30, "riscv64": 30}
#: Its arguments: one thread, and the class that is served when the disk is idle.
_WHO_PROCESS: Final = 1
_CLASS_IDLE: Final = 3 << 13
_NICEST: Final = 19


def lower_this_thread() -> None:
    """Give the calling thread the lowest priority, for as long as it lives.

    On Linux a priority is a thread's own. Where the system refuses, it stays as it is.
    """
    thread = threading.get_native_id()
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, thread, _NICEST)
    number = _IOPRIO_SET.get(platform.machine())
    if number is not None:
        ctypes.CDLL(None).syscall(number, _WHO_PROCESS, thread, _CLASS_IDLE)
