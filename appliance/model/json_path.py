"""A path to one value in a JSON document, such as `$.data.id` or `$.items[0].sku`. Pure."""

import re
from typing import Any, Final

#: Characters of a path.
_LONGEST: Final = 200
_STEP: Final = re.compile(r"\.([\w$-]+)|\[(0|[1-9][0-9]{0,5})\]|\[\"([^\"\\]+)\"\]")


class JsonPath:
    """A path, read once and followed often."""

    def __init__(self, text: str) -> None:
        """Read a path. Raises ValueError, in words."""
        self.text = text
        steps: list[str | int] = []
        place = 1
        while place < len(text):
            match = _STEP.match(text, place)
            if not match:
                break
            steps.append(int(match[2]) if match[2] else match[1] or match[3])
            place = match.end()
        if text[:1] != "$" or place != len(text) or not steps or len(text) > _LONGEST:
            raise ValueError('expected a path such as $.id, $.items[0].id or $["a name"]')
        #: Names of members and places in arrays, from the outside in. No name has `"` or `\`.
        self.steps: Final = tuple(steps)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JsonPath) and other.steps == self.steps

    def __hash__(self) -> int:
        return hash(self.steps)

    def __repr__(self) -> str:
        return f"JsonPath({self.text!r})"

    def find(self, document: Any) -> Any:
        """Return the value at the path in a decoded document; None where there is none."""
        value = document
        for step in self.steps:
            if isinstance(step, str):
                value = value.get(step) if isinstance(value, dict) else None
            else:
                is_there = isinstance(value, list) and step < len(value)
                value = value[step] if is_there else None
        return value
