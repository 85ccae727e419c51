"""Sizes and spans of time as people write them. No I/O."""

import re
from typing import Final

_SIZES: Final = {
    "": 1,
    "k": 10**3,
    "m": 10**6,
    "g": 10**9,
    "t": 10**12,
    "ki": 2**10,
    "mi": 2**20,
    "gi": 2**30,
    "ti": 2**40,
}
_SPANS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def size(text: str) -> int:
    """Return the bytes of `1048576`, `64k` or `1MiB`. Raises ValueError for anything else."""
    match = re.fullmatch(r"(\d{1,15})\s*([kmgt]i?)?b?", text.strip().lower(), re.ASCII)
    if not match:
        raise ValueError("expected a size, for example 1048576 or 1MiB")
    return int(match[1]) * _SIZES[match[2] or ""]


def span(text: str) -> int:
    """Return the seconds of `30s`, `10m`, `2h`, `7d` or `1w`. Raises ValueError otherwise."""
    match = re.fullmatch(r"(\d{1,9})([smhdw])", text, re.ASCII)
    if not match:
        raise ValueError("expected a span of time, for example 30s, 10m, 2h, 7d or 1w")
    return int(match[1]) * _SPANS[match[2]]


def span_words(seconds: float) -> str:
    """Return a span as people read it: `90 s`, `5 min`, `20 h`, `3 d`."""
    for unit, length, most in (("s", 1, 120), ("min", 60, 120), ("h", 3600, 48)):
        if seconds < length * most:
            return f"{int(seconds / length)} {unit}"
    return f"{int(seconds / 86_400)} d"
