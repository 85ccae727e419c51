"""Retention rules: how many messages of each topic are kept. No I/O.

    logs.*: age=7d rows=1000000; audit: keep; *: bytes=10GiB

Rules are separated by `;`. Each has a pattern (`*` stands for any characters), a colon, and limits
for *each* topic that it matches: `age` (since a message was received), `rows`, `bytes` (of bodies).
The first rule that matches a topic counts. `keep` keeps everything, and so does a topic that no
rule matches.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from appliance.model import quantities

_PATTERN: Final = re.compile(r"[a-z0-9._*-]{1,100}", re.ASCII)
#: The shortest age in seconds: messages of the last minute are never deleted.
_LEAST_AGE: Final = 60
_EXAMPLE: Final = "logs.*: age=7d rows=1000000; *: bytes=10GiB"


@dataclass(frozen=True, slots=True)
class Rule:
    """Limits for each topic that `pattern` matches: seconds, rows, bytes; None: unlimited."""

    pattern: str
    age: int | None = None
    rows: int | None = None
    bytes: int | None = None

    def matches(self, topic: str) -> bool:
        """Whether the pattern matches `topic`."""
        return re.fullmatch(".*".join(map(re.escape, self.pattern.split("*"))), topic) is not None


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules, in their order; empty where everything is kept."""

    rules: tuple[Rule, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.rules)

    def __str__(self) -> str:
        return "; ".join(f"{rule.pattern}: {_limits(rule)}" for rule in self.rules)

    def of(self, topic: str) -> Rule | None:
        """Return the rule for `topic`, the first that matches."""
        return next((rule for rule in self.rules if rule.matches(topic)), None)


def parse_rules(text: str) -> Rules:
    """Return the rules in `text`. Raises ValueError, in words that quote the faulty part."""
    rules: list[Rule] = []
    for part in text.split(";"):
        if part.strip():
            rule = _rule(part.strip())
            before = next((r for r in rules if r.pattern in ("*", rule.pattern)), None)
            if before:
                raise ValueError(
                    f"{part.strip()!r} never counts: {before.pattern!r} before it takes its topics"
                )
            rules.append(rule)
    return Rules(tuple(rules))


def _rule(text: str) -> Rule:
    pattern, colon, rest = (piece.strip() for piece in text.partition(":"))
    words = rest.replace(",", " ").split()
    if not colon or not words:
        raise ValueError(f"expected rules such as {_EXAMPLE}, not {text!r}")
    if not _PATTERN.fullmatch(pattern):
        raise ValueError(f"{pattern!r} is no pattern for topics: a-z, 0-9, dot, _, - and *")
    if words == ["keep"]:
        return Rule(pattern)
    limits: dict[str, int] = {}
    for word in words:
        name, _, value = word.partition("=")
        if name not in _LIMITS:
            raise ValueError(f"{word!r} in {text!r}: expected age=, rows=, bytes= or keep")
        if name in limits:
            raise ValueError(f"{name} is given twice in {text!r}")
        try:
            limits[name] = _LIMITS[name](value)
        except ValueError as error:
            raise ValueError(f"{word!r} in {text!r}: {error}") from error
    return Rule(pattern, limits.get("age"), limits.get("rows"), limits.get("bytes"))


def _age(text: str) -> int:
    seconds = quantities.span(text)
    if seconds < _LEAST_AGE:
        raise ValueError("expected at least 1m")
    return seconds


def _rows(text: str) -> int:
    if not re.fullmatch(r"\d{1,15}", text, re.ASCII):
        raise ValueError("expected a whole number")
    return int(text)


_LIMITS: Final[dict[str, Callable[[str], int]]] = {
    "age": _age,
    "rows": _rows,
    "bytes": quantities.size,
}


def _limits(rule: Rule) -> str:
    limits = [
        f"age={rule.age}s" if rule.age is not None else "",
        f"rows={rule.rows}" if rule.rows is not None else "",
        f"bytes={rule.bytes}" if rule.bytes is not None else "",
    ]
    return " ".join(filter(None, limits)) or "keep"
