"""The write-ahead log against its index: whether a program took frames away beneath us.

SQLite trusts the index in the shared memory (`-shm`): it neither looks whether the log is still the
file at its path, nor whether it is as long as the index says. Where another program removed or cut
the log, committed messages are gone, and a checkpoint would write zeros over good pages. So the
index is compared with the file before anything is written.

The layouts are those of https://www.sqlite.org/walformat.html; the index has this machine's byte
order.
"""

import contextlib
import fcntl
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from appliance.store.sqlite import paths

#: The index's header, twice, and behind it the number of frames that a checkpoint has moved.
_HEADER: Final = struct.Struct("=IIIBBHII8s8s8s")
#: Of the header, from _END_AT on: the page's size, the frames and the log's salts.
_END: Final = struct.Struct("=HI4x8x8s")
_END_AT: Final = 14
_HEADERS_BYTES: Final = 2 * _HEADER.size
_MOVED: Final = struct.Struct("=I")
_INDEX_BYTES: Final = _HEADERS_BYTES + _MOVED.size
_VERSION: Final = 3_007_000
#: The byte that whoever writes to the log locks.
_WRITE_LOCK: Final = 120
#: The kernel's `struct flock`: kind, whence, start, length, process.
_FLOCK: Final = struct.Struct("@hhqqi4x")
#: Bytes before the first frame, and of a frame before its page.
_LOG_HEADER: Final = 32
_FRAME_HEADER: Final = 24
#: Where the salts are: in the log's header, and in that of a frame.
_LOG_SALTS: Final = slice(16, 24)
_FRAME_SALTS: Final = slice(8, 16)

#: Descriptors of shared memories by device and inode. To close one drops all locks that SQLite
#: holds on the file in this process (POSIX), so one is closed only once the file is gone.
_descriptors: dict[tuple[int, int], int] = {}


class WalIndex(NamedTuple):
    """What the index says of the log."""

    frames: int
    moved: int  # of them, already in the database
    page: int  # bytes
    salts: bytes

    @property
    def log_bytes(self) -> int:
        """Bytes that the log must have."""
        return _LOG_HEADER + self.frames * (_FRAME_HEADER + self.page) if self.frames else 0

    def frames_in(self, size: int) -> int:
        """Return how many of the frames a log of `size` bytes can hold."""
        return max(0, min(self.frames, (size - _LOG_HEADER) // (_FRAME_HEADER + self.page)))


class IndexGlance:
    """The index of an open database, read as cheaply as can be: around every transaction."""

    def __init__(self, database: Path) -> None:
        self._descriptor = _descriptor(paths.shared_memory(database))
        self._log = -1
        with contextlib.suppress(FileNotFoundError):
            self._log = os.open(paths.wal(database), os.O_RDONLY | os.O_CLOEXEC)
        self._salts, self._last = b"", 0  # of the last frame that was seen, and its place

    def close(self) -> None:
        """Close the log; a second call does nothing."""
        if self._log >= 0:
            os.close(self._log)
            self._log = -1

    def is_whole(self, size: int) -> bool:
        """Whether a log of `size` bytes has what the index tells of; False may be a false alarm.

        A log that was cut may have become as long as before: SQLite writes on where it was. So the
        frame that was the last one at the last call must still be there.
        """
        if self._descriptor is None:
            return False
        content = os.pread(self._descriptor, _END.size, _END_AT)
        if len(content) < _END.size:
            return False
        page, frames, salts = _END.unpack(content)  # the first write sets the page's size
        if not frames:
            self._last = 0
            return True
        frame = _FRAME_HEADER + (65536 if page == 1 else page)
        if size < _LOG_HEADER + frames * frame:
            return False
        if self._last and self._salts == salts:
            header = os.pread(self._log, _FRAME_HEADER, self._last)
            if header[_FRAME_SALTS] != salts:
                return False
        self._salts, self._last = salts, _LOG_HEADER + (frames - 1) * frame
        return True


def missing(database: Path) -> WalIndex | None:
    """Return the index where the log lacks frames that the index has; None where all is well.

    Takes no lock: SQLite writes frames before the index tells of them, and empties the index before
    it cuts the log.
    """
    index = read(database)
    if index is None or paths.size(paths.wal(database)) >= index.log_bytes:
        return None
    return index if read(database) == index else None


def read(database: Path) -> WalIndex | None:
    """Return what the index says; None where there is none, or it is being written."""
    descriptor = _descriptor(paths.shared_memory(database))
    if descriptor is None:
        return None
    content = os.pread(descriptor, _INDEX_BYTES, 0)
    one, other = content[: _HEADER.size], content[_HEADER.size : _HEADERS_BYTES]
    if len(content) < _INDEX_BYTES or one != other:
        return None
    version, _, _, is_set, _, page, frames, _, _, salts, _ = _HEADER.unpack(one)
    if version != _VERSION or not is_set:
        return None
    size = 65536 if page == 1 else page
    return WalIndex(frames, _MOVED.unpack(content[_HEADERS_BYTES:])[0], size, salts)


def forget(database: Path) -> bool:
    """Have SQLite read the log anew, as after a crash, where frames are missing; whether it must.

    What the log still has is kept. Where a checkpoint has moved more than that already, the log is
    emptied: its older pages must not go over newer ones. False where another process is writing.
    Raises OSError.
    """
    descriptor = _descriptor(paths.shared_memory(database))
    if descriptor is None:
        return False
    with _locked(descriptor) as is_locked:
        index = missing(database) if is_locked else None
        if index is None:
            return False
        log = paths.wal(database)
        if index.frames_in(paths.size(log)) < index.moved:
            with contextlib.suppress(FileNotFoundError):
                os.truncate(log, 0)
        os.pwrite(descriptor, bytes(_HEADERS_BYTES), 0)
    return True


def has_gap(database: Path) -> bool:
    """Whether the log has zeros in the place of frames: see `cut_at_gap`. Takes 1 us a frame."""
    index = read(database)
    return index is not None and _gap(database, index) is not None and read(database) == index


def cut_at_gap(database: Path) -> bool:
    """Cut a log that has zeros in the place of frames where they begin: they are missing then.

    Another program cut it while a process was writing, and SQLite wrote on where it was. False
    where another process is writing. Raises OSError.
    """
    descriptor = _descriptor(paths.shared_memory(database))
    if descriptor is None:
        return True
    with _locked(descriptor) as is_locked:
        index = read(database) if is_locked else None
        if index is not None and (gap := _gap(database, index)) is not None:
            os.truncate(paths.wal(database), gap)
    return is_locked


def _gap(database: Path, index: WalIndex) -> int | None:
    """Return where the log has no frame that it must have; None where it has all, or is cut."""
    try:
        with paths.wal(database).open("rb", buffering=0) as log:
            if index.frames and log.read(_LOG_HEADER)[_LOG_SALTS] != index.salts:
                return 0
            for frame in range(index.frames):
                place = _LOG_HEADER + frame * (_FRAME_HEADER + index.page)
                if os.pread(log.fileno(), _FRAME_HEADER, place)[_FRAME_SALTS] != index.salts:
                    return place
    except FileNotFoundError:
        pass
    return None


def is_of_log(database: Path, index: WalIndex) -> bool:
    """Whether an index that no process uses was written for the log that is there.

    Neither file is in use. The index is never synced: what a power cut leaves of it says nothing of
    a log that is empty or gone.
    """
    try:
        with paths.wal(database).open("rb") as log:
            header = log.read(_LOG_HEADER)
    except FileNotFoundError:
        header = b""
    except OSError:
        return False
    if header:
        return header[_LOG_SALTS] == index.salts
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    try:
        return paths.shared_memory(database).stat().st_mtime > booted
    except OSError:
        return False


def empty(database: Path) -> None:
    """Empty the log, and have SQLite read it anew. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        os.truncate(paths.wal(database), 0)
    descriptor = _descriptor(paths.shared_memory(database))
    if descriptor is not None:
        os.pwrite(descriptor, bytes(_HEADERS_BYTES), 0)


def valid_frames(database: Path, index: WalIndex) -> int:
    """Return how many of the frames that a checkpoint has moved the log still has, unharmed.

    Reads no further than that; takes about 0.3 ms a page.
    """
    try:
        with paths.wal(database).open("rb") as log:
            header = log.read(_LOG_HEADER)
            if len(header) < _LOG_HEADER or header[_LOG_SALTS] != index.salts:
                return 0
            order = ">" if header[3] & 1 else "<"
            sums = _sums(header[:24], (0, 0), order)
            for frame in range(index.moved):
                content = log.read(_FRAME_HEADER + index.page)
                if (
                    len(content) < _FRAME_HEADER + index.page
                    or content[_FRAME_SALTS] != index.salts
                ):
                    return frame
                sums = _sums(content[:8], sums, order)
                sums = _sums(content[_FRAME_HEADER:], sums, order)
                if struct.pack(">II", *sums) != content[16:24]:
                    return frame
    except OSError:
        return 0
    return index.moved


def _sums(content: bytes, sums: tuple[int, int], order: str) -> tuple[int, int]:
    """Go on with SQLite's checksum over so many bytes."""
    one, two = sums
    words = struct.unpack(f"{order}{len(content) // 4}I", content)
    for first, second in zip(words[::2], words[1::2], strict=True):
        one = (one + first + two) & 0xFFFFFFFF
        two = (two + second + one) & 0xFFFFFFFF
    return one, two


@contextlib.contextmanager
def _locked(descriptor: int) -> Iterator[bool]:
    """Hold SQLite's lock of the one who writes, if nobody has it: no thread of this process either.

    SQLite's locks are a process's (POSIX), so one of that kind would be given to a second thread
    that asks, and its end would take SQLite's away amid a transaction: another process would write
    into the same place of the log. A lock of the descriptor's own gets on with neither.
    """
    try:
        _lock(descriptor, fcntl.F_WRLCK)
    except OSError:
        yield False
        return
    try:
        yield True
    finally:
        _lock(descriptor, fcntl.F_UNLCK)


def _lock(descriptor: int, kind: int) -> None:
    wish = _FLOCK.pack(kind, os.SEEK_SET, _WRITE_LOCK, 1, 0)
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, wish)


def release() -> None:
    """Close every file that is kept open here, as before its disk is taken away.

    No connection of this process may be open: its locks would go.
    """
    while _descriptors:
        os.close(_descriptors.popitem()[1])


def _descriptor(path: Path) -> int | None:
    try:
        key = _key(path.stat())
    except OSError:
        return None
    if key not in _descriptors:
        for known, descriptor in list(_descriptors.items()):
            if os.fstat(descriptor).st_nlink == 0:
                os.close(_descriptors.pop(known))
        try:
            opened = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return None
        key = _key(os.fstat(opened))
        if key in _descriptors:
            return _descriptors[key]  # this one stays open: see above
        _descriptors[key] = opened
    return _descriptors[key]


def _key(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
