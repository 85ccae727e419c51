"""Frames between a handler process and the program that runs its functions. No I/O of its own.

A frame is a head, JSON, and bodies behind it, whose sizes the head says. Neither side trusts the
other one's sizes.
"""

import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

import orjson

#: Lengths of the head and of all bodies together.
_LENGTHS: Final = struct.Struct("!II")
#: Bytes of a head: names of a hundred thousand results fit.
MOST_HEAD: Final = 16 * 2**20


class FrameError(Exception):
    """What came is no frame, or a larger one than can be taken."""


def frame(head: dict[str, Any], bodies: Sequence[bytes] = ()) -> bytes:
    """Return a frame as it is sent."""
    text = orjson.dumps(head)
    return b"".join((_LENGTHS.pack(len(text), sum(map(len, bodies))), text, *bodies))


def read(receive: Callable[[int], bytes], most: int) -> tuple[dict[str, Any], bytes]:
    """Return a frame's head and all its bodies, of `most` bytes together at most.

    `receive` returns exactly so many bytes, or raises. Raises FrameError.
    """
    head_length, length = _LENGTHS.unpack(receive(_LENGTHS.size))
    if head_length > MOST_HEAD or length > most:
        raise FrameError(f"a frame of {head_length} and {length} bytes")
    try:
        head = orjson.loads(receive(head_length))
    except orjson.JSONDecodeError as error:
        raise FrameError("a frame without a head") from error
    if not isinstance(head, dict):
        raise FrameError("a frame whose head is no object")
    return head, receive(length)


def cut(body: bytes, sizes: Sequence[Any]) -> list[bytes]:
    """Cut what stands behind a head into bodies of these sizes. Raises FrameError."""
    if not all(isinstance(size, int) and size >= 0 for size in sizes) or sum(sizes) != len(body):
        raise FrameError("bodies of other sizes than said")
    parts, place = [], 0
    for size in sizes:
        parts.append(body[place : place + size])
        place += size
    return parts
