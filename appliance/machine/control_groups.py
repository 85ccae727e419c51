"""The control groups that this process is in: where the kernel tells what they may use."""

from pathlib import Path
from typing import Final

MEMBERSHIP: Final = Path("/proc/self/cgroup")
MOUNTED: Final = Path("/sys/fs/cgroup")


def folders(controller: str, membership: Path = MEMBERSHIP, mounted: Path = MOUNTED) -> set[Path]:
    """Return the folders of our group and of every group above it, as far as they can be there.

    Understands versions 1 and 2. A container may see its own group as the root.
    """
    found: set[Path] = set()
    for line in read(membership).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        for root in (mounted, mounted / "unified", mounted / controller):
            group = root / path.lstrip("/")
            found |= {each for each in (group, *group.parents) if each.is_relative_to(mounted)}
    return found


def read(path: Path) -> str:
    """Return a file's text, or nothing where it can't be read."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""
