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
        status = os.statvfs(folder)
    except OSError as error:
        raise StoreError(f"{folder}: {error.strerror}") from error
    return Disk(
        name=name,
        free=status.f_bavail * status.f_frsize,
        total=status.f_blocks * status.f_frsize,
        floor=floor,
        free_inodes=status.f_favail,
        inodes=status.f_files,
        inode_floor=inode_floor,
    )


def disks(config: Config) -> list[Disk]:
    """Return the data's disk and, where that is another one, the broker's. Raises StoreError."""
    floors = (config.min_free_bytes, MIN_FREE_INODES)
    all_disks = [disk(config.data, "the data's disk", *floors)]
    broker = config.broker_home
    try:
        own = not config.broker_url and broker.stat().st_dev != config.data.stat().st_dev
    except OSError:  # not made yet: it will be on the same
        own = False
    if own:
        all_disks.append(disk(broker, "the broker's disk", *floors))
    return all_disks


def lacking(config: Config) -> str:
    """Say which disk is below a floor; empty where none is. Raises StoreError."""
    return next((each.lacks for each in disks(config) if each.lacks), "")
