"""Puts the node's files on disk, so that the node's database survives a power cut.

RabbitMQ syncs the log of a queue before it confirms, but not every file beside it. A node whose
power fails within its first half minute comes back with some of them empty, and then never starts
again ("not_a_dets_file") or starts without the queue. So before anything is accepted, all of the
node's files are synced, and then a mark that is synced too: without the mark nothing was ever
accepted.
"""

import contextlib
import os
from pathlib import Path
from typing import Final

from appliance.machine import files

#: Marks in the node's folder: the database was on disk once, and stays so; the queue is as old as
#: it must be.
DATABASE: Final = "database-is-safe"
QUEUE: Final = "queue-is-safe"
#: No mark of safety: the queue holds no envelope of a version that signed none (`broker.trust`).
SIGNED: Final = "envelopes-are-signed"


def sync(folder: Path) -> None:
    """Have every file below `folder`, and its name, on disk when this returns. Raises OSError."""
    for where, _, names in os.walk(folder):
        for path in (*(Path(where, name) for name in names), Path(where)):
            with contextlib.suppress(FileNotFoundError):  # the node removes files while it runs
                files.sync(path)
    files.sync(folder.parent)


def mark(folder: Path, name: str) -> None:
    """Make a mark in the node's folder, on disk when this returns. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / name
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    files.sync(path)
    files.sync(folder)


def was_safe(folder: Path) -> bool:
    """Whether the node's database was on disk once: only then can it hold messages."""
    return any((folder / name).exists() for name in (DATABASE, QUEUE))
