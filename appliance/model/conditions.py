"""Conditions on a value in a JSON body, as people write them: `customer.id=42`. Pure."""

import json
import re
from dataclasses import dataclass, replace
from typing import Final

from appliance.model.json_path import JsonPath

#: Characters of a condition.
_LONGEST: Final = 1000
#: Ways to compare, in words and signs; a longer sign before its beginning.
OPERATORS: Final = ("=", "!=", ">", ">=", "<", "<=", "contains", "exists")
_STEP: Final = r"\[[0-9]+\]|\[\"[^\"\\]+\"\]"
_PATH: Final = re.compile(rf"\$?(?:\.?[\w$-]+|{_STEP})(?:\.[\w$-]+|{_STEP})*")
_OPERATOR: Final = re.compile(r"\s*(==|!=|>=|<=|=|>|<|~)\s*|\s+(contains)\s+|\s+(exists)\s*\Z")
_SIGNS: Final = {"==": "=", "~": "contains"}
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,6})?", re.ASCII)
_WORDS: Final = frozenset({"true", "false", "null"})
_EXAMPLE: Final = (
    "expected a path, one of = != > >= < <= contains exists, and a value, such as "
    "customer.id=42, temp>=30, name contains ann or error exists"
)


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition: the value at `path` compared with `value`.

    An unquoted value that reads as a number, or is `true`, `false` or `null`, also means that JSON
    value, and not only the text. A value that means only the text has no need of quotes, and is not
    `is_quoted`. `in_meta` asks the message's meta instead of its body.
    """

    path: JsonPath
    operator: str
    value: str = ""
    is_quoted: bool = False
    in_meta: bool = False

    @property
    def number(self) -> str | None:
        """The value as the number that it reads as; None for a text."""
        return self.value if not self.is_quoted and _NUMBER.fullmatch(self.value) else None

    @property
    def word(self) -> str | None:
        """The JSON word (`true`, `false`, `null`) that the value is; None for any other."""
        return self.value if not self.is_quoted and self.value in _WORDS else None

    def __str__(self) -> str:
        path = self.path.text.removeprefix("$").removeprefix(".")
        path = ("@" if self.in_meta else "") + path
        if self.operator == "exists":
            return f"{path} exists"
        plain = not self.is_quoted and self.value == self.value.strip()
        plain = plain and not self.value.startswith(('"', "="))
        value = self.value if plain else json.dumps(self.value, ensure_ascii=False)
        sign = " contains " if self.operator == "contains" else self.operator
        return f"{path}{sign}{value}"


def parse_condition(text: str) -> Condition:
    """Return the condition that a text is. Raises ValueError, in words, for anything else."""
    text = text.strip()
    if len(text) > _LONGEST:
        raise ValueError(f"a condition has {_LONGEST} characters at most")
    in_meta = text.startswith("@")
    match = _PATH.match(text, int(in_meta))
    found = _OPERATOR.match(text, match.end()) if match else None
    if not match or not found:
        raise ValueError(_EXAMPLE)
    path = json_path(match[0])
    if found[3]:
        return Condition(path, "exists", in_meta=in_meta)
    sign = found[1] or "contains"
    value, is_quoted = _value(text[found.end() :])
    condition = Condition(path, _SIGNS.get(sign, sign), value, in_meta=in_meta)
    if is_quoted and (condition.number is not None or condition.word is not None):
        condition = replace(condition, is_quoted=True)
    return condition


def json_path(text: str) -> JsonPath:
    """Return a path that may be written without `$.` in front. Raises ValueError."""
    if text.startswith("$") and text[1:2] in (".", "["):
        return JsonPath(text)
    return JsonPath(f"${text}" if text.startswith((".", "[")) else f"$.{text}")


def _value(text: str) -> tuple[str, bool]:
    """Return a value, and whether it came in quotes, as JSON writes a text."""
    if len(text) > 1 and text.startswith('"') and text.endswith('"'):
        try:
            value = json.loads(text)
        except ValueError:
            return text, False
        return str(value), True
    return text, False
