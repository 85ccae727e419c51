"""The signs of life that processes leave in the run folder, as other processes read them.

A process writes its sign with `pulse`. This half imports little, because supervisord and the
event listener read signs for as long as they run.
"""

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from appliance.config import Config
from appliance.machine import locks, record_file

#: A fact of the API's sign: true once a message sent to it would be stored.
READY: Final = "ready"
#: A fact of a handler process's sign: why it can't run functions now, in words; empty: it can.
HANDLER_TROUBLE: Final = "handlers"
#: Bytes of a sign's file.
FILE_BYTES: Final = 2048


@dataclass(frozen=True)
class Sign:
    """The last sign of a process that is still there, working or hung."""

    process: str
    pid: int
    #: grows while the process works
    beats: int
    #: seconds since `beats` grew
    seconds_ago: float
    #: `starting`, `ready` or `stopping`
    state: str
    #: a line for people
    status: str
    #: name -> value that the process tells the others
    facts: Mapping[str, Any] = field(default_factory=dict)


def folder(config: Config) -> Path:
    """Return the folder of the signs' files."""
    return config.run_folder / "pulse"


def signs(config: Config) -> list[Sign]:
    """Return the signs of all processes that are there, working or hung."""
    living = []
    for path in record_file.files(folder(config)):
        # A file that can't be parsed is being written; the next look finds it.
        with contextlib.suppress(OSError, KeyError, TypeError, ValueError):
            if locks.is_held(path):
                record = record_file.read(path, FILE_BYTES)
                ago = max(0.0, time.monotonic() - record.pop("beat_at"))
                living.append(Sign(seconds_ago=ago, **record))
    return living


def remove_dead(folder: Path) -> None:
    """Delete the files of processes that have ended."""
    for path in record_file.files(folder):
        with contextlib.suppress(OSError):
            if not locks.is_held(path):
                path.unlink()
