"""Makes entries that stand in for those of a queue's log that are damaged beyond correction.

A quorum queue numbers what each channel publishes, and takes nothing behind a number that is
missing: one lost entry would cost all that waits behind it. So where the numbers show that a
message was lost, a copy of the message before it takes its number. The copy is a repetition, which
the worker knows; the lost message is missing in the ledger. Where no message was lost (but a
worker's acknowledgement, say), the entry becomes one that does nothing.

Format of an entry's data (RabbitMQ 3.10 to 4.1), in Erlang's external term format:
`{'$usr', Meta, {enqueue, Channel, Number, Message}, Reply}`.
"""

import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

Data = bytes | memoryview

#: Ra passes over an entry with this content: the atom `damaged`, as Erlang writes a term.
NOTHING: Final = b"\x83\x77\x07damaged"
_VERSION: Final = 131
#: Tag of a term -> bytes behind the tag.
_FIXED: Final = {ord("a"): 1, ord("b"): 4, ord("F"): 8, ord("j"): 0}
#: Tag of a term -> how its length is written.
_SIZED: Final = {
    ord("d"): ">H", ord("w"): ">B", ord("s"): ">B", ord("v"): ">H", ord("m"): ">I", ord("k"): ">H",
}  # fmt: skip
#: Tag of an atom, whose name follows the length.
_ATOMS: Final = b"dwsv"
_NESTED_MOST: Final = 8
_NUMBER_BYTES: Final = 8
#: Bytes of an entry that are looked at: its number is within the first two hundred.
_LOOKED_AT: Final = 1024
_SMALL, _INTEGER, _LARGE, _TUPLE, _MAP, _LIST = b"abnhtl"
_PID, _OLD_PID = b"Xg"


class _Enqueue(NamedTuple):
    """A message of the channel `sender`; its number is written from `begin` to `end`."""

    sender: bytes
    number: int
    begin: int
    end: int


def stand_in(before: Iterable[Data], behind: Iterable[Data]) -> bytes:
    """Return what to put between these entries of a queue, both in the order of the log."""
    last: dict[bytes, tuple[_Enqueue, Data]] = {}
    for data in before:
        if (enqueue := _read(data)) is not None:
            last[enqueue.sender] = enqueue, data
    for data in behind:
        enqueue = _read(data)
        if enqueue is None or enqueue.sender not in last:
            continue
        model, entry = last.pop(enqueue.sender)
        if enqueue.number > model.number + 1:
            number = _integer(model.number + 1)
            return b"".join((entry[: model.begin], number, entry[model.end :]))
    return NOTHING


def _integer(number: int) -> bytes:
    """Write a number as Erlang does."""
    if number < 2**8:
        return struct.pack(">BB", _SMALL, number)
    if number < 2**31:
        return struct.pack(">Bi", _INTEGER, number)
    content = number.to_bytes((number.bit_length() + 7) // 8, "little")
    return struct.pack(">BBB", _LARGE, len(content), 0) + content


def _read(entry: Data) -> _Enqueue | None:
    """Return the message in an entry; None: it is another entry, or one that is not understood."""
    data = bytes(entry[:_LOOKED_AT])
    try:
        if data[0] != _VERSION:
            return None
        at = _expect(data, 1, 4, b"$usr")
        at = _expect(data, _behind(data, at), 4, b"enqueue")
        end_of_sender = _behind(data, at)
        if data[at] not in (_PID, _OLD_PID):
            return None
        end = _behind(data, end_of_sender)
        return _Enqueue(data[at:end_of_sender], _number(data, end_of_sender), end_of_sender, end)
    except (IndexError, ValueError, struct.error):
        return None


def _expect(data: bytes, at: int, size: int, name: bytes) -> int:
    """Return where the second element of a tuple of this size begins, the first being this atom."""
    behind = _behind(data, at + 2)
    if data[at : at + 2] != bytes((_TUPLE, size)) or data[at + 2] not in _ATOMS:
        raise ValueError
    if data[behind - len(name) : behind] != name or behind - at - 2 > len(name) + 3:
        raise ValueError
    return behind


def _number(data: bytes, at: int) -> int:
    tag, number = data[at], -1
    if tag == _SMALL:
        number = data[at + 1]
    elif tag == _INTEGER:
        number = int(struct.unpack_from(">i", data, at + 1)[0])
    elif tag == _LARGE and data[at + 1] <= _NUMBER_BYTES and not data[at + 2]:
        number = int.from_bytes(data[at + 3 : at + 3 + data[at + 1]], "little")
    if number < 0:
        raise ValueError
    return number


def _behind(data: bytes, at: int, depth: int = 0) -> int:
    """Return where the term that begins at `at` ends. Raises ValueError, IndexError, struct.error.

    It knows the terms that come before a message's number.
    """
    tag = data[at]
    at += 1
    if depth > _NESTED_MOST:
        raise ValueError
    if tag in _FIXED:
        at += _FIXED[tag]
    elif tag in _SIZED:
        (size,) = struct.unpack_from(_SIZED[tag], data, at)
        at += struct.calcsize(_SIZED[tag]) + size
    elif tag == _LARGE:
        at += 2 + data[at]
    elif tag in (_PID, _OLD_PID):
        at = _behind(data, at, depth + 1) + (12 if tag == _PID else 9)
    elif tag == _TUPLE:
        at = _behind_all(data, at + 1, data[at], depth)
    elif tag in (_MAP, _LIST):
        (count,) = struct.unpack_from(">I", data, at)
        at = _behind_all(data, at + 4, 2 * count if tag == _MAP else count + 1, depth)
    else:
        raise ValueError
    if at > len(data):
        raise ValueError
    return at


def _behind_all(data: bytes, at: int, count: int, depth: int) -> int:
    if count > len(data):
        raise ValueError
    for _ in range(count):
        at = _behind(data, at, depth + 1)
    return at
