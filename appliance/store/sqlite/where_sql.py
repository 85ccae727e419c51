"""Conditions in SQL: what a filter asks of a row. Every value is bound, none is written into SQL.

SQLite's JSON functions fail on text that is not JSON, and the order in which conditions are
evaluated is not promised. So each of them is inside a CASE whose WHEN is `json_valid`.
"""

# ruff: noqa: S608  # the SQL is put together from texts of this package, and values are bound

import json
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from appliance.model.conditions import Condition
from appliance.model.json_path import JsonPath
from appliance.store.filters import MessageFilter

#: A condition: the body is JSON. A BLOB is none, even where its bytes could be read as such.
IS_JSON: Final = "(typeof(body) = 'text' AND json_valid(body))"
_KINDS: Final = {
    "json": IS_JSON,
    "text": "(typeof(body) = 'text' AND NOT json_valid(body))",
    "binary": "typeof(body) = 'blob'",
}
_INTEGERS: Final = range(-(2**63), 2**63)
#: The name of `compare_numbers` in SQL.
_COMPARE: Final = "appliance_compare"

#: The topic is one of those asked for, and one that may be read. No character of a pattern but `*`
#: means something to GLOB.
TOPIC: Final = " AND ".join(
    f"(:{name} IS NULL OR EXISTS "
    f"(SELECT 1 FROM json_each(:{name}) AS pattern WHERE topic GLOB pattern.value))"
    for name in ("topics", "patterns")
)


def add_functions(connection: Any) -> None:
    """Give a connection the functions that the conditions call."""
    connection.create_function(_COMPARE, 2, compare_numbers, deterministic=True)


def compare_numbers(one: str, other: str) -> int | None:
    """Return -1, 0 or 1 as the first of two numbers in JSON's form is less, equal or greater."""
    try:
        first, second = Decimal(one), Decimal(other)
    except (InvalidOperation, TypeError, ValueError):
        return None
    return (first > second) - (first < second)


def of_filter(wanted: MessageFilter, values: dict[str, Any]) -> list[str]:
    """Return the conditions on bodies and meta; what they bind is added to `values`."""
    conditions = [_KINDS[wanted.kind]] if wanted.kind else []
    for number, condition in enumerate(wanted.where):
        conditions.append(_condition(condition, f"where{number}", values))
    return conditions


def sqlite_path(path: JsonPath) -> str:
    """Return a path in SQLite's form; a name in it has neither `"` nor a backslash."""
    steps = (f'."{step}"' if isinstance(step, str) else f"[{step}]" for step in path.steps)
    return "$" + "".join(steps)


def _condition(condition: Condition, name: str, values: dict[str, Any]) -> str:
    column = "meta" if condition.in_meta else "body"
    is_json = "json_valid(meta)" if condition.in_meta else IS_JSON
    values[f"{name}_path"] = sqlite_path(condition.path)
    kind = f"json_type({column}, :{name}_path)"
    value = f"json_extract({column}, :{name}_path)"
    if condition.operator == "exists":
        test = f"{kind} IS NOT NULL"
    elif condition.operator == "contains":
        values[name] = condition.value
        elements = f"json_each(CASE WHEN {is_json} THEN {column} ELSE '[]' END, :{name}_path)"
        test = (
            f"CASE {kind} WHEN 'text' THEN instr({value}, :{name}) > 0 WHEN 'array' THEN EXISTS "
            f"(SELECT 1 FROM {elements} AS element WHERE element.atom IS NOT NULL "
            f"AND CAST(element.atom AS TEXT) = :{name}) ELSE 0 END"
        )
    elif condition.operator in ("=", "!="):
        equal = _equals(condition, name, values, column)
        test = equal if condition.operator == "=" else f"({kind} IS NOT NULL AND NOT ({equal}))"
    else:
        test = _order(condition, name, values, column)
    return f"CASE WHEN {is_json} THEN {test} ELSE 0 END"


def _equals(condition: Condition, name: str, values: dict[str, Any], column: str) -> str:
    """Return the test whether the value is this text or, unquoted, this number or word."""
    kind = f"json_type({column}, :{name}_path)"
    value = f"json_extract({column}, :{name}_path)"
    values[name] = condition.value
    branches = f"WHEN 'text' THEN {value} = :{name}"
    if condition.word is not None:
        branches += f" WHEN :{name} THEN 1"
    if condition.number is not None:
        number = _number_test(condition.number, "=", name, values, column)
        branches += f" WHEN 'integer' THEN {number} WHEN 'real' THEN {number}"
    return f"CASE {kind} {branches} ELSE 0 END"


def _order(condition: Condition, name: str, values: dict[str, Any], column: str) -> str:
    """Return the test of <, <=, > or >=: numbers with a number, texts with anything else."""
    kind = f"json_type({column}, :{name}_path)"
    if condition.number is None:
        values[name] = condition.value
        value = f"json_extract({column}, :{name}_path)"
        return f"CASE {kind} WHEN 'text' THEN {value} {condition.operator} :{name} ELSE 0 END"
    number = _number_test(condition.number, condition.operator, name, values, column)
    return f"CASE {kind} WHEN 'integer' THEN {number} WHEN 'real' THEN {number} ELSE 0 END"


def _number_test(number: str, operator: str, name: str, values: dict[str, Any], column: str) -> str:
    """Return an exact comparison of a JSON number.

    SQLite compares its integers of 64 bits and its reals exactly. A whole number beyond 64 bits, of
    the body or of the condition, it would round; that is left to `compare_numbers`.
    """
    values[f"{name}_text"] = number
    exact = f"{_COMPARE}({column} -> :{name}_path, :{name}_text) {operator} 0"
    is_whole = number.lstrip("-").isdigit()
    if is_whole and int(number) not in _INTEGERS:
        return exact
    values[f"{name}_number"] = int(number) if is_whole else float(number)
    value = f"json_extract({column}, :{name}_path)"
    kind = f"json_type({column}, :{name}_path)"
    return (
        f"CASE WHEN {kind} = 'integer' AND typeof({value}) = 'real' THEN {exact} "
        f"ELSE {value} {operator} :{name}_number END"
    )


def topic_values(wanted: MessageFilter) -> dict[str, str | None]:
    """Return what TOPIC binds."""
    return {
        name: None if patterns is None else json.dumps(list(patterns))
        for name, patterns in (("topics", wanted.topics), ("patterns", wanted.patterns))
    }
