"""Room on the disks that the appliance writes to: bytes and inodes, and the floors below them.

The store and the broker may lie on disks of their own (`broker` below the data folder may be a
mount). Below a floor nothing is accepted any more: what is left is for storing what was accepted.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.config import Config
from appliance.errors import StoreError

#: Files that can still be made: the broker makes one for every hundred or so messages that wait.
MIN_FREE_INODES: Final = 1000


@dataclass(frozen=True, slots=True)
class Disk:
    """One file system: `name` for people, bytes and inodes; `inodes` is 0 where none are counted.

    `floor` and `inode_floor` must stay free.
    """

    name: str
    free: int
    total: int
    floor: int
    free_inodes: int
    inodes: int
    inode_floor: int

    @property
    def lacks(self) -> str:
        """Say which floor it is below; empty where it is below none."""
        if self.free < self.floor:
            return f"{self.free} bytes are free on {self.name}, {self.floor} must stay free"
        if self.inodes and self.free_inodes < self.inode_floor:
            return (
                f"{self.free_inodes} more files can be made on {self.name}, "
                f"{self.inode_floor} must stay possible"
            )
        return ""


def disk(folder: Path, name: str, floor: int, inode_floor: int) -> Disk:
    """Return the state of the disk below `folder`. Raises StoreError if it can't be asked."""
    try:
        found = os.statvfs(folder)
    except OSError as error:
        raise StoreError(f"{folder}: {error.strerror}") from error
    return Disk(
        name=name,
        free=found.f_bavail * found.f_frsize,
        total=found.f_blocks * found.f_frsize,
        floor=floor,
        free_inodes=found.f_favail,
        inodes=found.f_files,
        inode_floor=inode_floor,
    )


def disks(config: Config) -> list[Disk]:
    """Return the data's disk and, where that is another one, the broker's. Raises StoreError."""
    floors = (config.min_free_bytes, MIN_FREE_INODES)
    found = [disk(config.data, "the data's disk", *floors)]
    broker = config.broker_home
    try:
        own = not config.broker_url and broker.stat().st_dev != config.data.stat().st_dev
    except OSError:  # not made yet: it will be on the same
        own = False
    if own:
        found.append(disk(broker, "the broker's disk", *floors))
    return found


def lacking(config: Config) -> str:
    """Say which disk is below a floor; empty where none is. Raises StoreError."""
    return next((found.lacks for found in disks(config) if found.lacks), "")
