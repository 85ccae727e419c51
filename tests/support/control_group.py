"""A control group with a limit of memory, of version 1 or 2; needs root."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness import wait_until


class ControlGroup:
    """`path` is its folder."""

    def __init__(self, path: Path, *, is_v2: bool) -> None:
        self.path = path
        self._is_v2 = is_v2

    def limit(self, size: int) -> None:
        """Allow so many bytes of memory, and no swap."""
        self._write("memory.max" if self._is_v2 else "memory.limit_in_bytes", size)
        for name in ("memory.swap.max", "memory.swappiness"):
            if (self.path / name).exists():
                self._write(name, 0)

    def join(self) -> None:
        """Put the calling process into it; for `preexec_fn`."""
        self._write("cgroup.procs", os.getpid())

    def killed(self) -> int:
        """Return how many processes the kernel has ended for want of memory."""
        name = "memory.events" if self._is_v2 else "memory.oom_control"
        values = dict(line.split() for line in (self.path / name).read_text().splitlines())
        return int(values["oom_kill"])

    def _write(self, name: str, value: int) -> None:
        (self.path / name).write_text(str(value))


@contextmanager
def control_group(name: str) -> Iterator[ControlGroup]:
    """Make a group; it goes when it is empty."""
    root = Path("/sys/fs/cgroup")
    is_v2 = (root / "cgroup.controllers").exists()
    if is_v2:
        (root / "cgroup.subtree_control").write_text("+memory")
    path = (root if is_v2 else root / "memory") / f"queue-appliance-{name}-{os.getpid()}"
    path.mkdir()
    try:
        yield ControlGroup(path, is_v2=is_v2)
    finally:
        wait_until(lambda: not (path / "cgroup.procs").read_text(), "the group is empty")
        path.rmdir()
