"""How much memory there is: the machine's, and what the control group allows."""

import os
from pathlib import Path
from typing import Final

#: A limit as high as this is how a version 1 control group says "none".
_UNLIMITED_BYTES: Final = 2**60


def limit(
    membership: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")
) -> int | None:
    """Return the bytes that our control group may use, or None where nothing limits them.

    Understands versions 1 and 2. The limit of every group above ours counts too.
    """
    groups: list[Path] = []
    for line in _read(membership).splitlines():
        _, controllers, path = line.split(":", 2)
        for root, name in (
            (mounted, "memory.max"),
            (mounted / "unified", "memory.max"),
            (mounted / "memory", "memory.limit_in_bytes"),
        ):
            if controllers in ("", "memory"):
                group = root / path.lstrip("/")
                groups += [above / name for above in (group, *group.parents)]
    limits = [
        int(text)
        for file in set(groups)
        if file.is_relative_to(mounted) and (text := _read(file)).isdecimal()
    ]
    return min((bytes_ for bytes_ in limits if bytes_ < _UNLIMITED_BYTES), default=None)


def total() -> int:
    """Return the machine's memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
