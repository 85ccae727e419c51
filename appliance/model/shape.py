"""The shape of JSON bodies: which keys there are, of which kinds, in which share. Pure."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

_PLAIN: Final = re.compile(r"[\w$-]+")
#: Keys that are told apart; in a body with more, the others are not looked at.
_MOST_KEYS: Final = 200
#: Objects inside of objects whose keys are looked at.
_DEEPEST: Final = 4
#: Characters of a path that is of use as a column or in a condition.
_LONGEST: Final = 100


@dataclass(slots=True)
class KeyShape:
    """One key: its path, the number of bodies that have it, and how many values of each kind."""

    path: str
    bodies: int = 0
    kinds: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Shape:
    """The keys of some bodies, in the order in which they came first.

    Arrays are values, and so are objects that lie deeper than is looked. `left_out` says that there
    are keys beside these: too many, too long, or with a quote or a backslash in their name.
    """

    bodies: int = 0
    json: int = 0
    keys: dict[str, KeyShape] = field(default_factory=dict)
    left_out: bool = False


def shape_of(bodies: Iterable[bytes]) -> Shape:
    """Return the shape of bodies."""
    shape = Shape()
    for body in bodies:
        shape.bodies += 1
        try:
            document = orjson.loads(body)
        except ValueError:
            continue
        shape.json += 1
        if isinstance(document, dict):
            for path, value in _leaves(shape, document, "", _DEEPEST):
                _count(shape, path, value)
    return shape


def _leaves(
    shape: Shape, document: dict[str, Any], prefix: str, depth: int
) -> Iterator[tuple[str, Any]]:
    """Yield path and value of everything in an object that is no object itself."""
    for name, value in document.items():
        step = _step(name)
        if step is None:
            shape.left_out = True
            continue
        path = f"{prefix}.{step}" if prefix and not step.startswith("[") else f"{prefix}{step}"
        if len(path) > _LONGEST:
            shape.left_out = True
        elif isinstance(value, dict) and value and depth > 1:
            yield from _leaves(shape, value, path, depth - 1)
        else:
            yield path, value


def _step(name: str) -> str | None:
    """Return a member's name as a step of a path; None where no path can have it."""
    if not name or '"' in name or "\\" in name or "\0" in name:
        return None
    # `$.a` is a path's beginning, and no member whose name is `$`.
    return name if _PLAIN.fullmatch(name) and name != "$" else f'["{name}"]'


def _count(shape: Shape, path: str, value: Any) -> None:
    key = shape.keys.get(path)
    if key is None:
        if len(shape.keys) >= _MOST_KEYS:
            shape.left_out = True
            return
        key = shape.keys[path] = KeyShape(path)
    key.bodies += 1
    kind = kind_of(value)
    key.kinds[kind] = key.kinds.get(kind, 0) + 1


def kind_of(value: Any) -> str:
    """Return the kind of a JSON value in one word."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    return {float: "number", str: "text", list: "array"}.get(type(value), "object")
