"""Processes that live and do nothing: SIGSTOP, and what waits for its effect."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from harness import wait_until


def stands_still(pid: int) -> bool:
    """Whether no thread of the process runs any more: the signal reaches them one by one."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    states = [(t / "stat").read_text().rpartition(")")[2].split()[0] for t in threads]
    return all(state == "T" for state in states)


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Have a process stand still for the block; whoever watches it may have ended it meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: stands_still(pid), "the process stands still")
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
