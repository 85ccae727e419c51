"""The last 15 minutes at one second, in a file of the run folder: written by one, read by all.

It has a place for each second, which is written again after 15 minutes. So a restart of any process
leaves a gap for as long as it took, and no more; a process that reads asks nobody; and a full disk
does not matter once the file is there.
"""

import os
import struct
import zlib
from pathlib import Path
from typing import Final

from appliance.config import Config
from appliance.model.history_points import HistoryPoint

#: Seconds that are kept.
KEPT_SECONDS: Final = 900

#: A point, and the checksum of its bytes: one that is being written while it is read is none.
_POINT: Final = struct.Struct("<Qd4Q5d")
_SUM: Final = struct.Struct("<I")
#: Bytes of a place: a page of the file has whole ones.
_PLACE: Final = 128
#: Stands for what is not known.
_UNKNOWN: Final = -1.0


class RecentSeconds:
    """The file in the run folder. `write` is for one thread of one process."""

    def __init__(self, config: Config) -> None:
        self._path = path(config)
        self._descriptor: int | None = None

    def write(self, point: HistoryPoint) -> None:
        """Keep the point of a second. Raises OSError; the next one is the next attempt."""
        if self._descriptor is None:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._descriptor = os.open(self._path, flags, 0o600)
        place = point.at % KEPT_SECONDS * _PLACE
        os.pwrite(self._descriptor, _packed(point), place)

    def close(self) -> None:
        """Close the file, which stays."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def recent_seconds(config: Config, now: float, seconds: int = KEPT_SECONDS) -> list[HistoryPoint]:
    """Return the points of the last so many seconds in their order; none where there is no file."""
    try:
        with path(config).open("rb") as file:
            content = file.read(KEPT_SECONDS * _PLACE)
    except OSError:
        return []
    found = []
    for at in range(int(now) - seconds + 1, int(now) + 1):
        place = at % KEPT_SECONDS * _PLACE
        data = content[place : place + _PLACE]
        point = _unpacked(data) if len(data) == _PLACE else None
        if point is not None and point.at == at:  # not what was there 15 minutes before
            found.append(point)
    return found


def path(config: Config) -> Path:
    """Return the path of the file."""
    return config.run_folder / "history"


def _packed(point: HistoryPoint) -> bytes:
    unknown = [_UNKNOWN if value is None else float(value) for value in point[6:]]
    data = _POINT.pack(*point[:6], *unknown)
    return (data + _SUM.pack(zlib.crc32(data))).ljust(_PLACE, b"\0")


def _unpacked(data: bytes) -> HistoryPoint | None:
    content = data[: _POINT.size]
    (checksum,) = _SUM.unpack_from(data, _POINT.size)
    if checksum != zlib.crc32(content) or not any(content):
        return None
    at, seconds, accepted, stored, refused, dead, *rest = _POINT.unpack(content)
    waiting, oldest, half, nearly_all, free = (None if each < 0 else each for each in rest)
    return HistoryPoint(
        at, seconds, accepted, stored, refused, dead,
        None if waiting is None else int(waiting), oldest, half, nearly_all,
        None if free is None else int(free),
    )  # fmt: skip
