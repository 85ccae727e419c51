"""How many cores the appliance may use, and how many API processes they are worth."""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from appliance.machine import control_groups

#: API processes by default at most: the worker, of which one stores at a time, takes a third of the
#: API's CPU for a message (docs/scaling.md), so beside more of them it is the worker that is full.
MOST_API_PROCESSES: Final = 3
#: Cores for each API process: broker and worker take more than the API does, and of its cores a
#: busy machine uses seven tenths. With fewer, a second one would be a loss, because its requests
#: share no envelope with those of the first.
_CORES_EACH: Final = 3


def usable(
    membership: Path = control_groups.MEMBERSHIP, mounted: Path = control_groups.MOUNTED
) -> int:
    """Return the cores that this process may run on, or fewer where its group gets less time."""
    cores = len(os.sched_getaffinity(0))
    return max(1, min([cores, *(math.ceil(each) for each in _quotas(membership, mounted))]))


def api_processes(cores: int) -> int:
    """Return how many API processes so many cores are worth."""
    return max(1, min(MOST_API_PROCESSES, cores // _CORES_EACH))


def _quotas(membership: Path, mounted: Path) -> Iterator[float]:
    """Yield the cores' worth of time that our control group, and each above it, may use."""
    for folder in control_groups.folders("cpu", membership, mounted):
        quota, _, period = control_groups.read(folder / "cpu.max").partition(" ")
        if not quota:  # version 1
            quota = control_groups.read(folder / "cpu.cfs_quota_us")
            period = control_groups.read(folder / "cpu.cfs_period_us")
        if quota.isdecimal() and period.isdecimal() and int(period):  # else "max", or -1
            yield int(quota) / int(period)
