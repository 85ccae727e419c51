"""A record file: a few values of one process, locked for as long as it lives, for others to read.

It is written in place and never longer than when it was made, so a full disk stops nobody who has
begun. Its lock says that the process is still there, in whatever namespace.
"""

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from appliance.machine import locks
from appliance.machine.complaint import Complaint

_DRAFT: Final = "."


class RecordFile:
    """One record of constant length at `path`; used by one thread at a time.

    `before` is called before the file is made: it removes what dead processes left. Without a
    `complaint` it fails in silence.
    """

    def __init__(
        self,
        path: Path,
        size: int,
        complaint: Complaint | None = None,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        self._path = path
        self._size = size
        self._complaint = complaint
        self._before = before
        self._descriptor: int | None = None

    def write(self, record: Mapping[str, Any]) -> None:
        """Write the record; where that fails, the next record is the next attempt."""
        text = json.dumps(record).encode()
        if len(text) >= self._size:
            return
        content = text.ljust(self._size - 1) + b"\n"
        try:
            if self._descriptor is None:
                self._descriptor = self._make(content)
            else:
                os.pwrite(self._descriptor, content, 0)
        except OSError as error:
            if self._complaint:
                self._complaint.fails(file=str(self._path), error=str(error))
        else:
            if self._complaint:
                self._complaint.works(file=str(self._path))

    def close(self, *, keep: bool = False) -> None:
        """End the lock; the file stays only if it is to be kept."""
        if self._descriptor is not None:
            if not keep:
                with contextlib.suppress(OSError):
                    self._path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None

    def _make(self, content: bytes) -> int:
        """Make the file, under a name that no reader heeds until it is locked and written."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._before()
        draft = self._path.with_name(f"{_DRAFT}{self._path.name}")
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            locks.take(descriptor)
            os.pwrite(descriptor, content, 0)
            draft.rename(self._path)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor


def files(folder: Path) -> list[Path]:
    """Return the record files of a folder, of processes that live and of others."""
    return [path for path in sorted(folder.glob("*-*")) if not path.name.startswith(_DRAFT)]


def read(path: Path, size: int) -> Any:
    """Return the record of a file. Raises OSError, ValueError where it is being written."""
    return orjson.loads(_first(path, size))


def _first(path: Path, size: int) -> bytes:
    """Return the first `size` bytes; each second all records are read, so by few system calls."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, size)
    finally:
        os.close(descriptor)
