"""Compares two bodies line by line; JSON with its keys in order, its tokens as they came. Pure."""

import difflib
import json
from dataclasses import dataclass
from typing import Any, Final

from appliance.console.page_words import whole_text
from appliance.model.json_pretty import Digits, compact, exact

#: Lines and bytes of a body that are compared here.
_MOST_LINES: Final = 5000
_MOST_BYTES: Final = 512 * 1024
#: Lines that differ: with many the comparison takes too long.
_MOST_DIFFERENT: Final = 1500


@dataclass(frozen=True)
class Comparison:
    """Lines with a sign each: `+`, `-` or a space; None where the bodies are too large."""

    lines: list[tuple[str, str]] | None
    is_same: bool
    are_json: bool = False


def compare(one: bytes, other: bytes) -> Comparison:
    """Compare two bodies."""
    if one == other:
        return Comparison([], is_same=True)
    if max(len(one), len(other)) > _MOST_BYTES:
        return Comparison(None, is_same=False)
    laid_out = [_json(one), _json(other)]
    are_json = None not in laid_out
    texts = laid_out if are_json else [one.decode(errors="replace"), other.decode(errors="replace")]
    left, right = ((text or "").splitlines() for text in texts)
    different = len(set(left) ^ set(right))
    if max(len(left), len(right)) > _MOST_LINES or different > _MOST_DIFFERENT:
        return Comparison(None, is_same=False, are_json=are_json)
    lines = [
        (line[0], line[2:]) for line in difflib.Differ().compare(left, right) if line[0] != "?"
    ]
    return Comparison(lines, is_same=False, are_json=are_json)


def _json(body: bytes) -> str | None:
    """Return JSON with a line for each value and its keys in order; None where it is none."""
    try:
        return _sorted(exact(body.decode()))
    except (ValueError, RecursionError):
        return None


def _sorted(value: Any) -> str:
    """Return a value of `exact` over several lines; a number has its digits as they came."""
    lines: list[str] = []
    _write(value, "", "", "", lines)
    return whole_text("\n".join(lines))


def _write(value: Any, indent: str, before: str, behind: str, lines: list[str]) -> None:
    if isinstance(value, dict) and value:
        lines.append(f"{indent}{before}{{")
        for place, (name, inner) in enumerate(sorted(value.items())):
            comma = "," if place < len(value) - 1 else ""
            key = f"{json.dumps(name, ensure_ascii=False)}: "
            _write(inner, f"{indent}  ", key, comma, lines)
        lines.append(f"{indent}}}{behind}")
    elif isinstance(value, list) and value:
        lines.append(f"{indent}{before}[")
        for place, inner in enumerate(value):
            comma = "," if place < len(value) - 1 else ""
            _write(inner, f"{indent}  ", "", comma, lines)
        lines.append(f"{indent}]{behind}")
    else:
        text = value if isinstance(value, Digits) else compact(value)
        lines.append(f"{indent}{before}{text}{behind}")
