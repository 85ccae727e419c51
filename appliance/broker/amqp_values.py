"""Values as AMQP 1.0 writes them: those that one question and its answer need. Pure."""

import struct
from collections.abc import Callable
from typing import Any, Final

_DESCRIBED: Final = 0x00
#: Nothing, written.
NULL: Final = b"\x40"


def binary(data: bytes) -> bytes:
    """Write bytes."""
    return b"\xb0" + struct.pack(">I", len(data)) + data


def text(words: str) -> bytes:
    """Write a text."""
    return b"\xb1" + struct.pack(">I", len(words.encode())) + words.encode()


def symbol(name: str) -> bytes:
    """Write a symbol, a name in ASCII."""
    return b"\xb3" + struct.pack(">I", len(name)) + name.encode()


def number(value: int) -> bytes:
    """Write a whole number of 32 bits without a sign."""
    return b"\x70" + struct.pack(">I", value)


def mapped(content: bytes, count: int) -> bytes:
    """Write a map of `count` keys and values, which are written already."""
    return b"\xd1" + struct.pack(">II", 4 + len(content), count) + content


def described(kind: int, *fields: bytes) -> bytes:
    """Write a list of a described kind."""
    content = b"".join(fields)
    head = b"\xd0" + struct.pack(">II", 4 + len(content), len(fields))
    return b"\x00\x53" + bytes([kind]) + head + content


#: Codes of values of one size, as struct unpacks them.
_FIXED: Final[dict[int, str]] = {
    0x50: ">B", 0x51: ">b", 0x52: ">B", 0x53: ">B", 0x54: ">b", 0x55: ">b", 0x56: ">?",
    0x60: ">H", 0x61: ">h", 0x70: ">I", 0x71: ">i", 0x72: ">f", 0x80: ">Q", 0x81: ">q",
    0x82: ">d", 0x83: ">q",
}  # fmt: skip
#: Codes that are the value themselves.
_EMPTY: Final[dict[int, Callable[[], Any]]] = {
    0x40: lambda: None, 0x41: lambda: True, 0x42: lambda: False, 0x43: int, 0x44: int, 0x45: list,
}  # fmt: skip


def decode(data: bytes) -> tuple[Any, bytes]:  # noqa: PLR0911  # one for each family
    """Return the value that begins here, and what follows it; a described one is (kind, value).

    Raises ValueError, LookupError or struct.error where there is none.
    """
    code, data = data[0], data[1:]
    if code == _DESCRIBED:
        kind, data = decode(data)
        value, data = decode(data)
        return (kind, value), data
    if code in _EMPTY:
        return _EMPTY[code](), data
    if code in _FIXED:
        size = struct.calcsize(_FIXED[code])
        return struct.unpack(_FIXED[code], data[:size])[0], data[size:]
    family = code >> 4
    if family not in (0xA, 0xB, 0xC, 0xD, 0xE, 0xF):
        raise ValueError(f"a value of the unknown kind {code:#x}")
    width = 4 if family & 1 else 1  # of the sizes that follow
    size = int.from_bytes(data[:width])
    content, rest = data[width : width + size], data[width + size :]
    if family in (0xA, 0xB):
        return content if code in (0xA0, 0xB0) else content.decode(errors="replace"), rest
    count, content = int.from_bytes(content[:width]), content[width:]
    if family in (0xE, 0xF):  # an array: one kind for all
        return _values(count, content[1:], content[:1]), rest
    values = _values(count, content)
    if code in (0xC1, 0xD1):
        return dict(zip(values[::2], values[1::2], strict=True)), rest
    return values, rest


def _values(count: int, content: bytes, kind: bytes = b"") -> list[Any]:
    values = []
    for _ in range(count):
        value, content = decode(kind + content)
        values.append(value)
    return values
