"""Keeps the snapshots of each queue, without which a log that was shortened can't be used.

A snapshot stands for the entries that were removed from a queue's log. Ra removes a snapshot that
it can't read, also where the disk fails for no more than a moment; the rest of the log then begins
in the middle, and the queue never starts again, with all that waits in it. So each snapshot has a
second name here, which costs nothing, and is put back before the node starts.

Format of a snapshot (Ra 2): `RASN`, a version, a CRC-32 checksum, and what that is of. Its folder
is named after the term and the index of the last entry that it stands for, as hex digits.
"""

import contextlib
import os
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from appliance.broker.node import log_check, segment_check
from appliance.broker.node.layout import Layout
from appliance.broker.node.queue_files import queue_logs
from appliance.machine import files

#: Folder of the second names in the node's folder, with a folder for each queue.
_COPIES: Final = "snapshots"
#: A folder of Ra's with that name holds a folder for each snapshot, and this is the file in it.
_OF_QUEUE, _FILE = "snapshots", "snapshot.dat"
_NAME: Final = re.compile(r"[0-9A-F]{16}_([0-9A-F]{16})")
#: Snapshots of a queue that are kept: the last one may be unfinished.
_MOST_KEPT: Final = 3
_HEAD: Final = struct.Struct(">4sBI")
_MAGIC: Final = b"RASN"


def keep(home: Path) -> None:
    """Give each snapshot that is new a second name; remove those that are no longer needed.

    Raises OSError.
    """
    layout, copies = Layout(home), home / _COPIES
    copies.mkdir(mode=0o700, exist_ok=True)
    queues = set()
    for queue in _queues(layout):
        queues.add(queue.name)
        folder = copies / queue.name
        folder.mkdir(mode=0o700, exist_ok=True)
        for name, path in _snapshots(queue).items():
            # Ra may remove it meanwhile: then there is a later one.
            with contextlib.suppress(FileExistsError, FileNotFoundError):
                (folder / name).hardlink_to(path)
        for name in sorted(_names(folder))[:-_MOST_KEPT]:
            (folder / name).unlink(missing_ok=True)
    for folder in copies.iterdir():
        if folder.name not in queues and folder.is_dir():
            for name in _names(folder):
                (folder / name).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # somebody has put something else there
                folder.rmdir()


def mend(layout: Layout) -> list[str]:
    """Put back a snapshot where a queue has none and its log needs one; return those queues.

    Raises OSError.
    """
    mended = []
    for queue in _queues(layout):
        folder = layout.home / _COPIES / queue.name
        if not folder.is_dir() or any(map(_is_whole, _snapshots(queue).values())):
            continue
        span = _span(layout, queue)
        for name in sorted(_names(folder), reverse=True):
            if span is not None and _fits(name, *span) and _is_whole(folder / name):
                _put_back(folder / name, queue / _OF_QUEUE / name)
                mended.append(queue.name)
                break
    return mended


def last_index(queue: Path) -> int:
    """Return the index up to which a queue's newest whole snapshot stands; -1 without one."""
    found = _snapshots(queue)
    for name in sorted(found, reverse=True):
        match = _NAME.fullmatch(name)
        if match is not None and _is_whole(found[name]):
            return int(match[1], 16)
    return -1


def _fits(name: str, first: int, last: int) -> bool:
    """Whether the log goes on where the snapshot ends, and did not begin anew since.

    A log that has all its entries from number 0 on needs none.
    """
    match = _NAME.fullmatch(name)
    return match is not None and 0 < first <= int(match[1], 16) + 1 <= last + 1


def _span(layout: Layout, queue: Path) -> tuple[int, int] | None:
    """Return the first and the last index of all that a queue has in segments and logs."""
    found = [segment_check.span(path) for path in queue.glob("*.segment")]
    found += [log_check.span(path, queue.name) for path in queue_logs(layout).glob("*.wal")]
    spans = [each for each in found if each is not None]
    if not spans:
        return None
    return min(first for first, _ in spans), max(last for _, last in spans)


def _put_back(copy: Path, folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = folder / f".{_FILE}.new"
    draft.unlink(missing_ok=True)
    os.link(copy, draft)
    draft.replace(folder / _FILE)
    for each in (folder / _FILE, folder, folder.parent):
        files.sync(each)


def _queues(layout: Layout) -> Iterator[Path]:
    logs = queue_logs(layout)
    for queue in sorted(logs.iterdir()) if logs.is_dir() else ():
        if queue.is_dir():
            yield queue


def _snapshots(queue: Path) -> dict[str, Path]:
    """Return the file of each snapshot of a queue, by its name."""
    folder = queue / _OF_QUEUE
    return {name: folder / name / _FILE for name in _names(folder)}


def _names(folder: Path) -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        return [name for name in os.listdir(folder) if _NAME.fullmatch(name)]  # noqa: PTH208
    return []


def _is_whole(path: Path) -> bool:
    """Whether the file is there, and is what was written."""
    with contextlib.suppress(FileNotFoundError):
        content = path.read_bytes()
        if len(content) > _HEAD.size:
            magic, _, checksum = _HEAD.unpack_from(content)
            return bool(magic == _MAGIC and zlib.crc32(content[_HEAD.size :]) == checksum)
    return False
