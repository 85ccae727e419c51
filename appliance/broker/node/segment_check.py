"""Finds damaged entries in the segments of the queues, and mends them, before the node starts.

Messages that wait for long lie in segments. RabbitMQ ends a queue that meets an entry there whose
checksum is wrong, again at each start, and everything that waits in it is out of reach. A single
flipped bit can be computed from the checksum, and is put right. An entry with more damage is lost;
another one stands in for it, so that nothing else is (`stand_ins`).

Format of a segment (Ra 2, version 2): `RASG`, a version, and how many entries there is room for;
for each of them its index, term, place, length and CRC-32 checksum; and then their data, one
behind the other. Segments of another version are left alone.
"""

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.broker.node import damaged_files
from appliance.broker.node.damaged_files import MOST_ENTRIES, MendedFile
from appliance.broker.node.layout import Layout
from appliance.broker.node.log_entries import LogEntry, sum_of
from appliance.broker.node.queue_files import queue_logs
from appliance.broker.node.stand_ins import stand_in

_HEAD: Final = struct.Struct(">4sHH")
_MAGIC, _VERSION = b"RASG", 2
_ENTRY: Final = struct.Struct(">QQQII")


@dataclass
class _Entry:
    """One entry; `at` is where its record lies in the file."""

    at: int
    index: int
    term: int
    place: int
    length: int
    checksum: int

    @property
    def is_in_unused_room(self) -> bool:
        """Whether a flipped bit in the room for later entries makes it look like one."""
        return int.from_bytes(self.written()).bit_count() == 1

    def written(self) -> bytes:
        return _ENTRY.pack(self.index, self.term, self.place, self.length, self.checksum)


def mend(layout: Layout) -> list[MendedFile]:
    """Mend the damaged entries in all segments of a node that does not run. Raises OSError."""
    segments = sorted(queue_logs(layout).glob("*/*.segment"))
    return [mended for each in segments if (mended := _mend(layout, each)) is not None]


def span(segment: Path) -> tuple[int, int] | None:
    """Return the index of the first and of the last entry; None: it has none. Raises OSError."""
    content = segment.read_bytes()
    numbers = [entry.index for entry in _entries(content, _room(content))]
    return (min(numbers), max(numbers)) if numbers else None


def indexed(segment: Path) -> set[int]:
    """Return the numbers of all entries that the segment's head names. Raises OSError."""
    with segment.open("rb") as file:
        head = file.read(_HEAD.size)
        room = _room(head)
        head += file.read(room * _ENTRY.size)
    return {entry.index for entry in _entries(head, room)}


def sound(segment: Path) -> set[int]:
    """Return the numbers of all sound entries. Raises OSError.

    The file, which can have hundreds of megabytes, is read piece by piece.
    """
    with segment.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(_HEAD.size)
        room = _room(head)
        head += file.read(room * _ENTRY.size)
        numbers = set()
        for entry in _entries(head, room):
            if entry.place + entry.length <= size:
                file.seek(entry.place)
                if sum_of(file, entry.length, zlib.crc32, 0) == entry.checksum:
                    numbers.add(entry.index)
        return numbers


def entries(segment: Path) -> list[LogEntry]:
    """Return each sound entry. Raises OSError."""
    content = segment.read_bytes()
    return [
        LogEntry(each.index, each.term, content[each.place : each.place + each.length])
        for each in _entries(content, _room(content))
        if _is_sound(each, content)
    ]


def room(segment: Path) -> int:
    """Return how many entries a segment has room for; 0 for what is none. Raises OSError."""
    with segment.open("rb") as file:
        return _room(file.read(_HEAD.size))


def content(found: Sequence[LogEntry], room: int) -> bytes:
    """Return a segment that holds these entries, as Ra writes it."""
    place = _HEAD.size + room * _ENTRY.size
    records = bytearray(_HEAD.pack(_MAGIC, _VERSION, room))
    for number, term, data in found:
        records += _ENTRY.pack(number, term, place, len(data), zlib.crc32(data))
        place += len(data)
    records += bytes(_HEAD.size + room * _ENTRY.size - len(records))
    return bytes(records) + b"".join(each.data for each in found)


def _mend(layout: Layout, segment: Path) -> MendedFile | None:
    content = segment.read_bytes()
    room = _room(content)
    entries = list(_entries(content, room))
    found = [each for each in entries if each.is_in_unused_room or not _is_sound(each, content)]
    misnumbered = list(_renumber(entries))
    if not found + misnumbered or len(found + misnumbered) > MOST_ENTRIES:
        return None
    made, lost = bytearray(content), []
    for entry in found:
        if entry.is_in_unused_room:
            entry.index = entry.term = entry.place = entry.length = entry.checksum = 0
        elif not _correct(entry, made, _place(entry, entries, room)):
            lost.append(entry)
    for entry in found + misnumbered:
        made[entry.at : entry.at + _ENTRY.size] = entry.written()
    if lost:
        made = _with_stand_ins(segment, made, room, {entry.at for entry in lost})
    corrected = len(found) + len(misnumbered) - len(lost)
    return damaged_files.replace(
        layout, segment, content, bytes(made), corrected=corrected, replaced=len(lost)
    )


def _with_stand_ins(segment: Path, content: bytearray, room: int, lost: set[int]) -> bytearray:
    """Return the segment with other entries for those that are lost, named by their places.

    They can have another size, so all data is laid out anew.
    """
    entries = list(_entries(bytes(content), room))
    segments = sorted(segment.parent.glob("*.segment"))
    number = segments.index(segment)
    before = _datas(segments[:number][-1:])
    behind = [
        bytes(content[each.place :][: each.length]) for each in entries if each.at not in lost
    ]
    behind += _datas(segments[number + 1 :][:1])
    made = content[: _HEAD.size + room * _ENTRY.size]
    for entry in entries:
        data = stand_in(before, behind) if entry.at in lost else behind.pop(0)
        before.append(data)
        entry.place, entry.length, entry.checksum = len(made), len(data), zlib.crc32(data)
        made[entry.at : entry.at + _ENTRY.size] = entry.written()
        made += data
    return made


def _datas(segments: list[Path]) -> list[bytes]:
    """Return the data of each entry in these segments that is sound."""
    found = []
    for segment in segments:
        content = segment.read_bytes()
        found += [
            content[each.place : each.place + each.length]
            for each in _entries(content, _room(content))
            if _is_sound(each, content)
        ]
    return found


def _room(content: bytes) -> int:
    """Return how many entries a segment has room for; 0 for what is no segment that we know."""
    if len(content) < _HEAD.size:
        return 0
    magic, version, room = _HEAD.unpack_from(content)
    return int(room) if (magic, version) == (_MAGIC, _VERSION) else 0


def _entries(content: bytes, room: int) -> Iterator[_Entry]:
    """Yield the entries; the room behind the last one is zero."""
    for number in range(room):
        at = _HEAD.size + number * _ENTRY.size
        if at + _ENTRY.size > len(content) or not any(content[at : at + _ENTRY.size]):
            return
        yield _Entry(at, *_ENTRY.unpack_from(content, at))


def _is_sound(entry: _Entry, content: bytes) -> bool:
    data = content[entry.place : entry.place + entry.length]
    return len(data) == entry.length and zlib.crc32(data) == entry.checksum


def _renumber(entries: list[_Entry]) -> Iterator[_Entry]:
    """Put right each index or term that no checksum is of, but both neighbours agree on."""
    for before, entry, behind in zip(entries, entries[1:], entries[2:], strict=False):
        index, term = before.index + 1, before.term
        is_misnumbered = behind.index == index + 1 and entry.index != index
        if is_misnumbered or (behind.term == term and entry.term != term):
            entry.index = index if is_misnumbered else entry.index
            entry.term = term if behind.term == term else entry.term
            yield entry


def _place(entry: _Entry, entries: list[_Entry], room: int) -> int:
    """Return where the data of an entry lies: behind that of the entry before it."""
    before = next((each for each in entries if each.at == entry.at - _ENTRY.size), None)
    return _HEAD.size + room * _ENTRY.size if before is None else before.place + before.length


def _correct(entry: _Entry, content: bytearray, place: int) -> bool:
    """Put a single flipped bit right, in the record or in the data; whether that was possible."""
    if entry.place != place:
        entry.place = place
        if _is_sound(entry, bytes(content)):
            return True
    data = content[entry.place : entry.place + entry.length]
    for bit in range(_ENTRY.size):
        other = content[entry.place : entry.place + (entry.length ^ (1 << bit))]
        if len(other) == entry.length ^ (1 << bit) and zlib.crc32(other) == entry.checksum:
            entry.length = len(other)
            return True
    if len(data) != entry.length:
        return False
    now = zlib.crc32(data)
    if (now ^ entry.checksum).bit_count() == 1:
        entry.checksum = now
        return True
    if (flipped := _flipped(now ^ entry.checksum, entry.length)) is None:
        return False
    byte, bit = flipped
    content[entry.place + byte] ^= 1 << bit
    return _is_sound(entry, bytes(content))


def _flipped(difference: int, length: int) -> tuple[int, int] | None:
    """Return the byte and the bit that change a CRC-32 by this; None: no single one does.

    A flipped bit changes a CRC by a number that depends only on how many bytes follow.
    """
    nothing = zlib.crc32(b"\0")
    changes = [zlib.crc32(bytes([1 << bit])) ^ nothing for bit in range(8)]
    for behind in range(length):
        for bit, change in enumerate(changes):
            if change == difference:
                return length - 1 - behind, bit
        changes = [change >> 8 ^ _TABLE[change & 0xFF] for change in changes]
    return None


#: CRC-32 of each byte, by which a change is carried over one more byte.
_TABLE: Final = tuple(zlib.crc32(bytes([byte])) ^ zlib.crc32(b"\0") for byte in range(256))
