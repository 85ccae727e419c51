"""Finds damaged entries in the logs of the queues, and mends them, before the node starts.

RabbitMQ does not start at all where a checksum in its write-ahead log is wrong, and everything that
waits in its queues is out of reach for a single bit. From the checksum a single flipped bit can be
computed, and is put right. An entry with more damage is lost; another one stands in for it, so that
nothing else is (`stand_ins`). The last entry of a log is left alone: a power cut may have torn it,
and Ra knows how to go on.

Format of a log (Ra 2, version 1): `RAWA`, a version, and entries of a flag, the number of a queue's
name (and the name itself where it is new), an Adler-32 checksum, a length, index, term and data.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.broker.node import damaged_files
from appliance.broker.node.damaged_files import MOST_ENTRIES, MendedFile
from appliance.broker.node.layout import Layout
from appliance.broker.node.log_entries import LogEntry, sum_of
from appliance.broker.node.queue_files import queue_logs
from appliance.broker.node.stand_ins import stand_in

_MAGIC: Final = b"RAWA\x01"
#: The bit of a queue's number that says that its name was given before.
_KNOWN: Final = 0x400000
#: Bytes of a queue's number, and of the length of a name.
_FLAGS: Final = 3
_NAME_LENGTH: Final = 2
#: Where the name begins in the head of a queue's first entry.
_NAMED: Final = _FLAGS + _NAME_LENGTH
#: Bytes that are read at once.
_BUFFER: Final = 2**20
_ENTRY: Final = struct.Struct(">IIQQ")
#: The modulus of an Adler-32 sum.
_ADLER: Final = 65521


@dataclass
class _Entry:
    """One entry; `head` is everything before its checksum."""

    head: memoryview
    queue: int
    checksum: int
    index: int
    term: int
    data: memoryview | bytes

    @property
    def is_sound(self) -> bool:
        return self.checksum in (0, _sum(self.index, self.term, self.data))

    def written(self) -> bytes:
        fields = _ENTRY.pack(self.checksum, len(self.data), self.index, self.term)
        return b"".join((self.head, fields, self.data))


def mend(layout: Layout) -> list[MendedFile]:
    """Mend the damaged entries in all logs of a node that does not run. Raises OSError."""
    logs = sorted(queue_logs(layout).glob("*.wal"))
    return [mended for log in logs if (mended := _mend(layout, log)) is not None]


def span(log: Path, queue: str) -> tuple[int, int] | None:
    """Return the index of the first and of the last entry of a queue, which is named as its folder.

    None: the log has none of it. Raises OSError.
    """
    content = memoryview(log.read_bytes())
    if bytes(content[: len(_MAGIC)]) != _MAGIC:
        return None
    entries, _ = _read(content)
    numbers = {entry.queue for entry in entries if bytes(entry.head[_NAMED:]) == queue.encode()}
    found = [entry.index for entry in entries if entry.queue in numbers]
    return (min(found), max(found)) if found else None


def entries(log: Path) -> Iterator[tuple[str, LogEntry]]:
    """Yield each sound entry, with the name of its queue's folder. Raises OSError."""
    for name, entry in _named(memoryview(log.read_bytes())):
        if entry.is_sound:
            yield name, LogEntry(entry.index, entry.term, bytes(entry.data))


def indexed(log: Path) -> dict[str, set[int]]:
    """Return the numbers of all sound entries by the name of their queue's folder.

    The log, which can have 32 MiB and more, is read piece by piece. (Mapped into memory, a disk
    that fails to read would end the process.) Raises OSError.
    """
    numbers: dict[str, set[int]] = {}
    names: dict[int, str] = {}
    with log.open("rb", buffering=_BUFFER) as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            return numbers
        while len(begin := file.read(_FLAGS)) == _FLAGS:
            flags = int.from_bytes(begin)
            queue = flags & (_KNOWN - 1)
            if not flags & _KNOWN:
                length = int.from_bytes(file.read(_NAME_LENGTH))
                if not length:
                    break  # space that was allocated ahead
                names[queue] = file.read(length).decode("latin-1")
            fields = file.read(_ENTRY.size)
            if len(fields) < _ENTRY.size:
                break
            checksum, length, index, term = _ENTRY.unpack(fields)
            if length > os.fstat(file.fileno()).st_size:
                break  # nonsense, behind a damaged length
            begun = zlib.adler32(struct.pack(">QQ", index, term))
            found = sum_of(file, length, zlib.adler32, begun)
            if found is not None and checksum in (0, found) and queue in names:
                numbers.setdefault(names[queue], set()).add(index)
    return numbers


def _named(content: memoryview) -> Iterator[tuple[str, _Entry]]:
    if bytes(content[: len(_MAGIC)]) != _MAGIC:
        return
    names: dict[int, str] = {}
    for entry, _ in _walk(content, len(_MAGIC)):
        if len(entry.head) > _NAMED:
            names[entry.queue] = bytes(entry.head[_NAMED:]).decode("latin-1")
        if entry.queue in names:
            yield names[entry.queue], entry


def _mend(layout: Layout, log: Path) -> MendedFile | None:
    content = memoryview(log.read_bytes())
    if bytes(content[: len(_MAGIC)]) != _MAGIC:
        return None
    entries, end = _read(content)
    damaged = [number for number, entry in enumerate(entries[:-1]) if not entry.is_sound]
    # Where a length is damaged, all that follows is nonsense: then Ra must decide.
    if not damaged or len(damaged) > MOST_ENTRIES or any(content[end:]) or not entries[-1].is_sound:
        return None
    lost = [number for number in damaged if not _correct(entries[number])]
    for place, number in enumerate(lost):
        _replace(entries, number, set(lost[place:]))
    whole = b"".join([_MAGIC, *(entry.written() for entry in entries), content[end:]])
    return damaged_files.replace(
        layout, log, bytes(content), whole, corrected=len(damaged) - len(lost), replaced=len(lost)
    )


def _correct(entry: _Entry) -> bool:
    """Put a single flipped bit right, wherever it is in the entry; whether that was possible.

    A bit of value v in a byte with n bytes from it to the end changes the first half of an Adler-32
    sum by v and the second by v times n, up or down, modulo 65521.
    """
    now = _sum(entry.index, entry.term, entry.data)
    if (now ^ entry.checksum).bit_count() == 1:
        entry.checksum = now
        return True
    content = bytearray(struct.pack(">QQ", entry.index, entry.term) + entry.data)
    first = ((entry.checksum & 0xFFFF) - (now & 0xFFFF)) % _ADLER
    second = ((entry.checksum >> 16) - (now >> 16)) % _ADLER
    if not first:
        return False
    distance = second * pow(first, -1, _ADLER) % _ADLER
    for bit in range(8):
        if (1 << bit) not in (first, _ADLER - first):
            continue
        for place in range(len(content) - distance, -1, -_ADLER):
            if place >= len(content):
                continue
            content[place] ^= 1 << bit
            if zlib.adler32(content) == entry.checksum:
                entry.index, entry.term = struct.unpack_from(">QQ", content)
                entry.data = bytes(content[16:])
                return True
            content[place] ^= 1 << bit
    return False


def _replace(entries: list[_Entry], lost: int, all_lost: set[int]) -> None:
    """Have another entry stand in for a lost one, at its index: a queue's have no gap."""
    entry = entries[lost]
    of_queue = [
        (number, each)
        for number, each in enumerate(entries)
        if each.queue == entry.queue and number not in all_lost
    ]
    before = [each for number, each in of_queue if number < lost]
    if before:
        entry.index, entry.term = before[-1].index + 1, before[-1].term
    behind = (each.data for number, each in of_queue if number > lost)
    entry.data = stand_in((each.data for each in before), behind)
    entry.checksum = _sum(entry.index, entry.term, entry.data)


def _read(content: memoryview) -> tuple[list[_Entry], int]:
    """Return the entries, and where the part begins that holds none."""
    entries: list[_Entry] = []
    position = len(_MAGIC)
    for entry, behind in _walk(content, position):
        entries.append(entry)
        position = behind
    return entries, position


def _walk(content: memoryview, position: int) -> Iterator[tuple[_Entry, int]]:
    while position + 3 <= len(content):
        begin = position
        flags = int.from_bytes(content[position : position + 3])
        position += 3
        if not flags & _KNOWN:
            length = int.from_bytes(content[position : position + _NAME_LENGTH])
            position += _NAME_LENGTH + length
            if not length:
                return  # space that was allocated ahead
        if position + _ENTRY.size > len(content):
            return
        checksum, length, index, term = _ENTRY.unpack_from(content, position)
        head = content[begin:position]
        position += _ENTRY.size
        if position + length > len(content):
            return
        data = content[position : position + length]
        position += length
        yield _Entry(head, flags & (_KNOWN - 1), checksum, index, term, data), position


def _sum(index: int, term: int, data: memoryview | bytes) -> int:
    return zlib.adler32(data, zlib.adler32(struct.pack(">QQ", index, term)))
