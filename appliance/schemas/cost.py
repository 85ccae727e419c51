"""The cost of a schema: how many of its subschemas one place of a body can meet. Pure.

Checking a body takes at most its length times this number, so that both together bound the time.
That needs schemas that end: one that contains itself, or refers to another document, is refused.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import unquote

from appliance.errors import InputError

#: Subschemas, and keywords in them, that one place of a body can meet.
MAX_COST: Final = 2000
#: Schemas within schemas, references followed.
_MAX_DEPTH: Final = 64
#: Subschemas in a schema's text.
_MAX_NODES: Final = 10_000
#: Regular expressions in a schema: each can take a megabyte and ten milliseconds to get ready.
_MAX_PATTERNS: Final = 64

#: Checks that one for unique items takes as long as.
_UNIQUE_COST: Final = 8

#: Keywords by the shape of what they hold, and by what their subschemas apply to.
_SAME_ONE: Final = ("not", "if", "then", "else")
_SAME_LIST: Final = ("allOf", "anyOf", "oneOf")
_SAME_MAP: Final = ("dependentSchemas", "dependencies")
_REFERENCES: Final = ("$ref", "$dynamicRef", "$recursiveRef")
_NAMES: Final = ("$id", "id", "$anchor", "$dynamicAnchor", "$recursiveAnchor")
#: Each value in a body meets one of the first, and may meet each of the others besides.
_ONE_OF_CHILDREN: Final = ("additionalProperties", "unevaluatedProperties")
_ONE_OF_ITEMS: Final = ("additionalItems", "unevaluatedItems")
_BESIDES: Final = ("contains", "propertyNames", "contentSchema")


def cost_of(schema: object) -> int:
    """Return a schema's cost. Raises InputError where it is refused, with the reason."""
    if not isinstance(schema, bool | Mapping):
        raise InputError("a JSON Schema is an object (or true or false)")
    _check_nodes(schema)
    meter = _Meter(schema)
    cost = max(meter.here(schema, ()), meter.below(schema, ()))
    if cost > MAX_COST:
        raise InputError(
            f"the schema can hold {cost} checks against one place of a body; the limit is "
            f"{MAX_COST}"
        )
    return cost


def _check_nodes(schema: object) -> None:
    waiting, count, patterns = [(schema, 0)], 0, 0
    while waiting:
        node, depth = waiting.pop()
        count += 1
        if count > _MAX_NODES or depth > _MAX_DEPTH:
            raise InputError(
                f"the schema is too large: {_MAX_NODES} parts, {_MAX_DEPTH} within one another"
            )
        if isinstance(node, Mapping):
            named = node.get("patternProperties")
            patterns += "pattern" in node
            patterns += len(named) if isinstance(named, Mapping) else 0
            waiting += [(value, depth + 1) for value in node.values()]
        elif isinstance(node, list):
            waiting += [(value, depth + 1) for value in node]
    if patterns > _MAX_PATTERNS:
        raise InputError(f"the schema has {patterns} patterns; the limit is {_MAX_PATTERNS}")


def _check_names(schema: Mapping[str, Any]) -> None:
    """Refuse names by which schemas can be found in other ways than by their place."""
    for name in _NAMES:
        if isinstance(schema.get(name), str):
            raise InputError(
                f"{name} within a schema is not taken; refer to its parts by their place, such as "
                "#/$defs/item"
            )


class _Meter:
    """Measures one schema; each of its parts is measured once."""

    def __init__(self, root: bool | Mapping[str, Any]) -> None:
        self._root = root
        self._here: dict[int, int] = {}
        self._below: dict[int, int] = {}

    def here(self, schema: Any, path: tuple[int, ...]) -> int:
        """Return how much of `schema` is checked against the very value it applies to."""
        if not isinstance(schema, Mapping):
            return 1
        key = id(schema)
        if key not in self._here:
            if path:
                _check_names(schema)
            path = self._deeper(key, path)
            enum = schema.get("enum")
            own = len(schema) + (len(enum) if isinstance(enum, list) else 0)
            own += _UNIQUE_COST if "uniqueItems" in schema else 0
            self._here[key] = min(
                own + sum(self.here(each, path) for each in self._same(schema)), 10 * MAX_COST
            )
        return self._here[key]

    def below(self, schema: Any, path: tuple[int, ...]) -> int:
        """Return how much of it can meet at one place below that value."""
        if not isinstance(schema, Mapping):
            return 0
        key = id(schema)
        if key not in self._below:
            path = self._deeper(key, path)
            both = [self.below(each, path) for each in self._same(schema)]
            self._below[key] = min(self._children(schema, path) + sum(both), 10 * MAX_COST)
        return self._below[key]

    def _children(self, schema: Mapping[str, Any], path: tuple[int, ...]) -> int:
        def whole(each: Any) -> int:
            return max(self.here(each, path), self.below(each, path))

        named = _values(schema.get("properties"))
        members = max(map(whole, [*named, *_present(schema, _ONE_OF_CHILDREN)]), default=0)
        members += sum(map(whole, _values(schema.get("patternProperties"))))
        items = schema.get("items")
        listed = [*(items if isinstance(items, list) else _present(schema, ("items",)))]
        prefix = schema.get("prefixItems")
        listed += prefix if isinstance(prefix, list) else []
        elements = max(map(whole, [*listed, *_present(schema, _ONE_OF_ITEMS)]), default=0)
        return members + elements + sum(map(whole, _present(schema, _BESIDES)))

    def _same(self, schema: Mapping[str, Any]) -> Iterator[Any]:
        """Yield the schemas that apply to the same value; those that are referred to, too."""
        yield from _present(schema, _SAME_ONE)
        for name in _SAME_LIST:
            listed = schema.get(name)
            yield from listed if isinstance(listed, list) else ()
        for name in _SAME_MAP:
            yield from _values(schema.get(name))
        for name in _REFERENCES:
            if name in schema:
                yield self._resolved(schema[name])

    def _resolved(self, reference: object) -> Any:
        if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
            raise InputError(
                f"the reference {str(reference)[:100]!r} leads out of the schema; copy what it "
                "refers to into $defs, and refer to #/$defs/NAME"
            )
        found: Any = self._root
        for step in reference.split("/")[1:]:
            if isinstance(found, Mapping) and found is not self._root:
                _check_names(found)
            name = unquote(step).replace("~1", "/").replace("~0", "~")
            if isinstance(found, Mapping) and name in found:
                found = found[name]
            elif isinstance(found, list) and name.isascii() and name.isdigit():
                number = int(name[:9])
                found = found[number] if number < len(found) else None
            else:
                found = None
        if not isinstance(found, bool | Mapping):
            raise InputError(f"the reference {reference[:100]!r} leads nowhere")
        return found

    @staticmethod
    def _deeper(key: int, path: tuple[int, ...]) -> tuple[int, ...]:
        if key in path:
            raise InputError(
                "the schema contains itself (a $ref to a schema that it is a part of), so the time "
                "that a check takes has no bound; spell out as many levels as there can be"
            )
        if len(path) > 2 * _MAX_DEPTH:
            raise InputError(f"more than {2 * _MAX_DEPTH} schemas refer to one another")
        return (*path, key)


def _present(schema: Mapping[str, Any], names: tuple[str, ...]) -> list[Any]:
    return [schema[name] for name in names if isinstance(schema.get(name), bool | Mapping)]


def _values(schemas: object) -> list[Any]:
    return list(schemas.values()) if isinstance(schemas, Mapping) else []
