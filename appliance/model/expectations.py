"""Expectations: how often a message of each topic must come. No I/O.

    orders: every=5m; till-*: every=1h

They are separated by `;`. Each has a pattern (`*` stands for any characters), a colon, and the
longest silence of *each* topic that it matches. The first that matches a topic counts.
"""

import re
from dataclasses import dataclass
from typing import Final

from appliance.model import quantities

_PATTERN: Final = re.compile(r"[a-z0-9._*-]{1,100}", re.ASCII)
#: Seconds; silence is looked for every ten.
_LEAST: Final = 30
_MOST: Final = 366 * 86400
_EXAMPLE: Final = "orders: every=5m; till-*: every=1h"


@dataclass(frozen=True, slots=True)
class Expectation:
    """A message at least every `seconds`, of each topic that `pattern` matches."""

    pattern: str
    seconds: int

    @property
    def is_of_one(self) -> bool:
        """Whether it names a topic, which is then expected even if it never had a message."""
        return "*" not in self.pattern

    def matches(self, topic: str) -> bool:
        """Whether the pattern matches `topic`."""
        return re.fullmatch(".*".join(map(re.escape, self.pattern.split("*"))), topic) is not None


@dataclass(frozen=True, slots=True)
class Expectations:
    """All of them, in their order."""

    all: tuple[Expectation, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.all)

    def __str__(self) -> str:
        return "; ".join(f"{each.pattern}: every={each.seconds}s" for each in self.all)

    def of(self, topic: str) -> Expectation | None:
        """Return the expectation of `topic`, the first that matches."""
        return next((each for each in self.all if each.matches(topic)), None)


def parse_expectations(text: str) -> Expectations:
    """Return the expectations in `text`. Raises ValueError, in words that quote the fault."""
    found: list[Expectation] = []
    for part in filter(None, (piece.strip() for piece in text.split(";"))):
        pattern, colon, rest = (piece.strip() for piece in part.partition(":"))
        name, _, value = rest.partition("=")
        if not colon or name.strip() != "every":
            raise ValueError(f"expected for example {_EXAMPLE}, not {part!r}")
        if not _PATTERN.fullmatch(pattern):
            raise ValueError(f"{pattern!r} is no pattern for topics: a-z, 0-9, dot, _, - and *")
        if any(each.pattern == pattern for each in found):
            raise ValueError(f"{pattern!r} is given twice")
        seconds = quantities.span(value.strip())
        if not _LEAST <= seconds <= _MOST:
            raise ValueError(f"{part!r}: expected from {_LEAST}s to 366d")
        found.append(Expectation(pattern, seconds))
    return Expectations(tuple(found))
