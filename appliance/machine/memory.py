"""How much memory there is: the machine's, and what the control group allows."""

import os
from pathlib import Path
from typing import Final

from appliance.machine import control_groups

#: A limit as high as this is how a version 1 control group says "none".
_UNLIMITED_BYTES: Final = 2**60


def limit(
    membership: Path = control_groups.MEMBERSHIP, mounted: Path = control_groups.MOUNTED
) -> int | None:
    """Return the bytes that our control group may use, or None where nothing limits them.

    Understands versions 1 and 2. The limit of every group above ours counts too.
    """
    limits = [
        int(text)
        for folder in control_groups.folders("memory", membership, mounted)
        for name in ("memory.max", "memory.limit_in_bytes")
        if (text := control_groups.read(folder / name)).isdecimal()
    ]
    return min((bytes_ for bytes_ in limits if bytes_ < _UNLIMITED_BYTES), default=None)


def total() -> int:
    """Return the machine's memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
