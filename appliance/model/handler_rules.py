"""Handler rules: which function gets the messages of which topics. No I/O.

    orders=shop:check, logs.*=appliance.split_handler:split

Rules are separated by commas. Each has a pattern (`*` stands for any characters), `=`, and a
function as `MODULE:NAME`. The first rule that matches a topic counts; a topic that no rule matches
has no handler.
"""

import re
from collections.abc import Iterable
from typing import Final

from appliance.model.topics import CANARY_TOPIC

_PATTERN: Final = re.compile(r"[a-z0-9._*-]{1,100}", re.ASCII)
_NAME: Final = r"[A-Za-z_][A-Za-z0-9_]*"
_FUNCTION: Final = re.compile(rf"{_NAME}(?:\.{_NAME})*:{_NAME}", re.ASCII)
_FUNCTION_LENGTH: Final = 200
#: Topics whose function is remembered: a look at a known one is one at a dictionary.
_REMEMBERED: Final = 10_000
_EXAMPLE: Final = "orders=shop:check, logs.*=appliance.split_handler:split"


class HandlerRules:
    """All rules, in their order; false where there are none."""

    def __init__(self, rules: Iterable[tuple[str, str]] = ()) -> None:
        self.rules = tuple(rules)
        self._patterns = [
            (re.compile(".*".join(map(re.escape, pattern.split("*")))), function)
            for pattern, function in self.rules
        ]
        self._known: dict[str, str | None] = {CANARY_TOPIC: None}

    def __bool__(self) -> bool:
        return bool(self.rules)

    def __str__(self) -> str:
        return ", ".join(f"{pattern}={function}" for pattern, function in self.rules)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HandlerRules) and self.rules == other.rules

    def __hash__(self) -> int:
        return hash(self.rules)

    @property
    def functions(self) -> list[str]:
        """Every function once, in the order of the rules."""
        return list(dict.fromkeys(function for _, function in self.rules))

    def of(self, topic: str) -> str | None:
        """Return the function that handles a topic's messages; None where there is none."""
        try:
            return self._known[topic]
        except KeyError:
            found = next((f for each, f in self._patterns if each.fullmatch(topic)), None)
            if len(self._known) < _REMEMBERED:
                self._known[topic] = found
            return found


def parse_handler_rules(text: str) -> HandlerRules:
    """Return the rules in `text`. Raises ValueError, in words that quote the faulty part."""
    rules: list[tuple[str, str]] = []
    for part in text.split(","):
        if not part.strip():
            continue
        pattern, equals, function = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise ValueError(f"expected rules such as {_EXAMPLE}, not {part.strip()!r}")
        if not _PATTERN.fullmatch(pattern):
            raise ValueError(f"{pattern!r} is no pattern for topics: a-z, 0-9, dot, _, - and *")
        if not _FUNCTION.fullmatch(function) or len(function) > _FUNCTION_LENGTH:
            raise ValueError(f"{function!r} is no function: expected MODULE:NAME")
        before = next((known for known, _ in rules if known in ("*", pattern)), None)
        if before:
            raise ValueError(
                f"{part.strip()!r} never counts: {before!r} before it takes its topics"
            )
        rules.append((pattern, function))
    return HandlerRules(rules)
