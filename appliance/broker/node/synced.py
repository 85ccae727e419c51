"""Whether the node's database would survive a power cut, and what to do where it did not.

RabbitMQ syncs the log of a queue before it confirms, but not every file beside it. A node whose
power fails within its first half minute comes back with some of them empty, and then never starts
again ("not_a_dets_file") or starts without the queue. So before anything is accepted, all of the
node's files are synced, and a mark that is synced too says so: without the mark nothing was ever
accepted.
"""

import os
from pathlib import Path
from typing import Final

#: In the node's folder: what was on disk once, and stays so; what is as old as it must be.
DATABASE: Final = "database-is-safe"
QUEUE: Final = "queue-is-safe"


def sync(folder: Path) -> None:
    """Have every file below `folder`, and its name, on disk when this returns. Raises OSError."""
    for where, _, names in os.walk(folder):
        for name in names:
            _sync(Path(where, name))
        _sync(Path(where))
    _sync(folder.parent)


def mark(folder: Path, name: str) -> None:
    """Note in the node's folder, on disk when this returns, that something is safe.

    Raises OSError.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / name
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    _sync(path)
    _sync(folder)


def was_safe(folder: Path) -> bool:
    """Whether the database in the node's folder was safe once: only then may it hold messages."""
    return any((folder / name).exists() for name in (DATABASE, QUEUE))


def _sync(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:  # the node removes files while it runs
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
