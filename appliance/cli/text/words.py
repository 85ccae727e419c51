"""Numbers, sizes, spans and states as people read them."""

import os
import sys
from typing import Final

import click

#: Each is 1024 of the one before.
_UNITS: Final = ("bytes", "KiB", "MiB", "GiB", "TiB")


def counted(count: int, noun: str) -> str:
    """Return `1 message` or `2,000 messages`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def size(count: int) -> str:
    """Return a number of bytes, for example `1.5 KiB`."""
    value, unit = float(count), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return counted(count, "byte") if not unit else f"{value:,.1f} {_UNITS[unit]}"


def span(seconds: float) -> str:
    """Return a span of time: its two largest units, for example `1h 5m`."""
    rest = int(seconds)
    parts: list[str] = []
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, length)
        if count or parts or unit == "s":
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])


def coloured(text: str, colour: str) -> str:
    """Return `text` in a colour, on a terminal whose user has not set NO_COLOR."""
    if os.environ.get("NO_COLOR") or not sys.stdout.isatty():
        return text
    return click.style(text, fg=colour)


def printable(text: str) -> str:
    r"""Return `text`; for a terminal, with its control characters written as `\x1b`."""
    if not sys.stdout.isatty():
        return text
    return "".join(c if c.isprintable() or c in "\t\n" else _escape(c) for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()
