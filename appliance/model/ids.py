"""Ids of messages. No I/O but the clock and the system's random numbers.

An id is a UUID whose last 32 bits count the messages of one envelope. Fresh ones are version 7
(time-ordered, RFC 9562), so that they are inserted at the right-hand end of the unique index; those
that follow from an idempotency key are version 8.
"""

import hashlib
import random
import re
import time
from typing import Final

_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII)

#: Characters of an id that all messages of an envelope share; 8 more count them.
PREFIX_LENGTH: Final = 28
#: Those 8 characters of the first thousand messages, whose ids a batch's answer lists.
_FIRST: Final = [f"{n:08x}" for n in range(1000)]


def is_id(text: str) -> bool:
    """Whether `text` has the form of a message's id."""
    return _ID.fullmatch(text) is not None


class IdSource:
    """Makes ids in the order of the calls, in one process."""

    def __init__(self) -> None:
        number = random.SystemRandom().getrandbits(30)
        self._end = f"-{0x8000 | number >> 16:04x}-{number & 0xFFFF:04x}"
        self._last = 0  # milliseconds since 1970, 12 bits of count below them
        self._begin = 0, ""  # a millisecond, and how its ids begin

    def prefix(self) -> str:
        """Return the prefix for one envelope's ids: PREFIX_LENGTH characters."""
        ticks = int(time.time() * 1000) << 12
        if ticks <= self._last:
            ticks = self._last + 1
        self._last, ms = ticks, ticks >> 12
        begin = self._begin
        if begin[0] != ms:
            self._begin = begin = ms, f"{ms >> 16:08x}-{ms & 0xFFFF:04x}-7"
        return f"{begin[1]}{ticks & 0xFFF:03x}{self._end}"

    def new(self) -> str:
        """Return the id of a message that travels alone or in a pack."""
        return self.prefix() + "00000000"


def key_prefix(topic: str, key: str) -> str:
    """Return the prefix of the ids that belong to an idempotency key of a topic.

    The same key gives the same ids in every process, so that a retry is the same message to the
    store even when no process remembers the first attempt.
    """
    digest = hashlib.sha256(f"{topic}\0{key}".encode(errors="surrogateescape")).hexdigest()
    variant = 8 | int(digest[16], 16) & 3
    return (
        f"{digest[:8]}-{digest[8:12]}-8{digest[13:16]}-{variant:x}{digest[17:20]}-{digest[20:24]}"
    )


def ids_from(first: str, count: int) -> list[str]:
    """Return the ids of `count` messages of an envelope whose first is `first`."""
    prefix, start = first[:PREFIX_LENGTH], int(first[PREFIX_LENGTH:], 16)
    if not start and count <= len(_FIRST):
        return [prefix + digits for digits in _FIRST[:count]]
    return [f"{prefix}{n:08x}" for n in range(start, start + count)]
