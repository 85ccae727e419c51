"""Keeps a copy of the file that describes each queue, without which its messages can't be reached.

Ra writes a queue's `config` anew, in place, whenever it starts the queue. Where the disk fails just
then, the file is left empty, and the queue never starts again, though its log is whole. So a copy
is kept beside, and put back before the node starts.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from appliance.broker.node.layout import NODE_NAME, Layout
from appliance.machine.files import write_private

#: Folder of the copies in the node's folder, one for each queue, named after the queue's folder.
_COPIES: Final = "queues"
_CONFIG: Final = "config"
#: What an Erlang map in a file of its own begins and ends with.
_BEGIN, _END = b"#{", b"}."


def queue_logs(layout: Layout) -> Path:
    """Return the folder with a folder for each queue."""
    return layout.database / NODE_NAME / "quorum" / NODE_NAME


def keep(home: Path) -> None:
    """Copy each queue's file that is new or was changed; remove copies of queues that are gone.

    Raises OSError.
    """
    layout, copies = Layout(home), home / _COPIES
    copies.mkdir(mode=0o700, exist_ok=True)
    names = set()
    for queue, text in _configs(layout):
        names.add(queue.name)
        copy = copies / queue.name
        if _is_whole(text) and text != _read(copy):
            write_private(copy, text.decode("latin-1"), encoding="latin-1")
    for copy in copies.iterdir():
        if copy.name not in names:
            copy.unlink()


def mend(layout: Layout) -> list[str]:
    """Put back each queue's file that is not whole; return the names of those queues' folders.

    Raises OSError.
    """
    mended = []
    for queue, text in _configs(layout):
        copy = _read(layout.home / _COPIES / queue.name)
        if not _is_whole(text) and _is_whole(copy):
            write_private(queue / _CONFIG, copy.decode("latin-1"), encoding="latin-1")
            mended.append(queue.name)
    return mended


def _configs(layout: Layout) -> Iterator[tuple[Path, bytes]]:
    """Yield each queue's folder with the content of its file; empty where there is none."""
    logs = queue_logs(layout)
    for queue in sorted(logs.iterdir()) if logs.is_dir() else ():
        if queue.is_dir():
            yield queue, _read(queue / _CONFIG)


def _is_whole(text: bytes) -> bool:
    return text.startswith(_BEGIN) and text.rstrip().endswith(_END)


def _read(path: Path) -> bytes:
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes()
    return b""
