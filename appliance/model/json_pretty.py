"""JSON laid out for people, token by token: no number and no key is read and written anew. Pure.

A parser would change what it can't hold: digits of large numbers, `1.10`, keys that come twice.
"""

import json
import re
from typing import Any, Final, NoReturn

#: Spaces of one level.
_INDENT: Final = "  "
_OPENING: Final = frozenset("{[")
_CLOSING: Final = frozenset("}]")
#: A token of valid JSON; what is between them is white space.
_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},:]|[^\s\[\]{},:"]+', re.DOTALL)


def is_json(text: str) -> bool:
    """Whether a text is JSON (RFC 8259) that is not nested deeper than a parser goes."""
    try:
        json.loads(text, parse_int=str, parse_float=str, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return True


def pretty(text: str) -> str | None:
    """Return JSON with a line for each value, its tokens as they came; None where it is none."""
    if not is_json(text):
        return None
    written: list[str] = []
    depth = 0
    parts = _TOKEN.findall(text)
    for place, part in enumerate(parts):
        if part in _OPENING:
            written.append(part)
            depth += 1
            if parts[place + 1] not in _CLOSING:
                written.append(_new_line(depth))
        elif part in _CLOSING:
            depth -= 1
            if parts[place - 1] not in _OPENING:
                written.append(_new_line(depth))
            written.append(part)
        else:
            written.append(": " if part == ":" else part)
            if part == ",":
                written.append(_new_line(depth))
    return "".join(written)


def _new_line(depth: int) -> str:
    return "\n" + _INDENT * depth


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")


class Digits(str):
    """A number of a JSON text, as its digits came; or another piece that is written as it is."""

    __slots__ = ()


def exact(text: str | bytes) -> Any:
    """Return a decoded JSON text whose numbers are `Digits`. Raises ValueError where it is none."""
    try:
        return json.loads(text, parse_int=Digits, parse_float=Digits, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def compact(value: Any) -> str:
    """Return what `exact` returned as JSON again, its numbers as they came."""
    written: list[str] = []
    waiting: list[Any] = [value]  # not a recursion: a sender decides how deep it would go
    while waiting:
        each = waiting.pop()
        if isinstance(each, Digits):
            written.append(each)
        elif isinstance(each, dict):
            parts: list[Any] = []
            for name, inner in each.items():
                parts += [Digits(f"{json.dumps(name, ensure_ascii=False)}:"), inner, Digits(",")]
            waiting += [Digits("}"), *reversed(parts[:-1]), Digits("{")]
        elif isinstance(each, list):
            parts = []
            for inner in each:
                parts += [inner, Digits(",")]
            waiting += [Digits("]"), *reversed(parts[:-1]), Digits("[")]
        else:
            written.append(json.dumps(each, ensure_ascii=False))
    return "".join(written)
