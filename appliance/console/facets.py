"""Facets: the kinds, keys and values that the newest messages of a list have, with their counts.

They are counted in a sample, which is bounded in messages, bytes and time, and said so.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from appliance.console.page_words import whole_text
from appliance.model.conditions import Condition, json_path, parse_condition
from appliance.model.json_path import JsonPath
from appliance.model.json_pretty import Digits, exact
from appliance.model.shape import shape_of
from appliance.store.base import Reader
from appliance.store.filters import MessageFilter
from appliance.store.rows import Span, StoredMessage

#: Messages of the sample, and bytes of their bodies. A thousand took 22 ms, as the page must not.
_LOOKED_AT: Final = 500
_LOOKED_AT_BYTES: Final = 2 * 2**20
#: Keys that can be chosen, and values of one that are shown.
_MOST_KEYS: Final = 30
_MOST_VALUES: Final = 10
#: Characters of a value that is shown, and of one that can be searched for.
_SHOWN: Final = 60
_LONGEST: Final = 200


class FacetValue(NamedTuple):
    """A value, how many messages have it, and the condition that finds them; "": there is none."""

    text: str
    messages: int
    where: str


@dataclass(frozen=True)
class Facets:
    """What the sample has. `is_all` is whether it is everything that the list finds.

    `values` are those of the key that was chosen, the most frequent first; `others` is how many
    more there are.
    """

    looked_at: int
    is_all: bool
    kinds: list[tuple[str, int]]
    keys: list[tuple[str, int]]
    key: str = ""
    values: list[FacetValue] = field(default_factory=list)
    others: int = 0


def facets(reader: Reader, wanted: MessageFilter, key: str, asker: str = "") -> Facets:
    """Return the facets of the newest messages that a filter wants, with the values of a key.

    `asker` is the name of who asks: the long searches of one are bounded. Raises StoreError, among
    them SlowReadError.
    """
    found = reader.find(wanted, Span(), _LOOKED_AT, _LOOKED_AT_BYTES, asker=asker)
    shape = shape_of(row.body for row in found.rows if row.text)
    binary = sum(not row.text for row in found.rows)
    kinds = {"json": shape.json, "text": len(found.rows) - shape.json - binary, "binary": binary}
    keys = sorted(shape.keys.values(), key=lambda each: -each.bodies)
    counted = Facets(
        looked_at=len(found.rows),
        is_all=not found.more and found.is_complete,
        kinds=[(kind, count) for kind, count in kinds.items() if count],
        keys=[(each.path, each.bodies) for each in keys[:_MOST_KEYS]],
    )
    try:
        path = json_path(key)
    except ValueError:
        return counted
    values = Counter(_values(found.rows, path))
    shown = [
        FacetValue(_shown(text), count, _condition(path, text, is_text=is_text))
        for (text, is_text), count in values.most_common(_MOST_VALUES)
    ]
    return replace(counted, key=key, values=shown, others=len(values) - len(shown))


def _values(rows: Iterable[StoredMessage], path: JsonPath) -> Iterable[tuple[str, bool]]:
    """Yield the value that each body has at a path, as JSON writes it, and whether it is a text.

    Lists, objects and null are none.
    """
    for row in rows:
        try:
            document = exact(row.body) if row.text else None
        except ValueError:
            continue
        value = path.find(document)
        if value is None or isinstance(value, dict | list):
            continue
        if isinstance(value, str) and not isinstance(value, Digits):
            yield value, True
        else:
            yield value if isinstance(value, Digits) else json.dumps(value), False


def _condition(path: JsonPath, text: str, *, is_text: bool) -> str:
    """Return the condition that finds a value, as the address has it; "" where none does."""
    condition = Condition(path, "=", text)
    if is_text and (condition.number is not None or condition.word is not None):
        condition = replace(condition, is_quoted=True)
    written = str(condition)
    if len(written) > _LONGEST or whole_text(written) != written:
        return ""
    try:
        return written if parse_condition(written) == condition else ""
    except ValueError:
        return ""


def _shown(text: str) -> str:
    return whole_text(text[:_SHOWN] + ("…" if len(text) > _SHOWN else "")) or "(empty)"
