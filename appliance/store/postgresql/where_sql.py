"""Conditions of a filter on a row, in PostgreSQL. Every value is bound.

A body is read as `jsonb`, whose numbers are exact; `appliance_value` (schema/004) returns NULL for
a body that is none, so that no row ends a query.
"""

# ruff: noqa: S608  # the SQL is put together from texts of this package, and values are bound

from decimal import Decimal
from typing import Any, Final

from appliance.model.conditions import Condition
from appliance.model.json_path import JsonPath
from appliance.store.filters import MessageFilter

_KINDS: Final = {
    "json": "(body IS NOT NULL AND appliance_is_json(body))",
    "text": "(body IS NOT NULL AND NOT appliance_is_json(body))",
    "binary": "body IS NULL",
}
#: Powers of ten of the numbers that PostgreSQL has: of their first digit, and of their last.
_GREATEST: Final = 131_000
_SMALLEST: Final = -16_000
#: The value of a condition as it is, as a text, and whether it has a kind of JSON.
_VALUE: Final = "found.value"
_TEXT: Final = "found.value #>> '{}'"


def of_filter(wanted: MessageFilter, values: dict[str, Any]) -> list[str]:
    """Return the conditions on bodies and meta; what they bind is added to `values`."""
    conditions = [_KINDS[wanted.kind]] if wanted.kind else []
    for number, condition in enumerate(wanted.where):
        conditions.append(_condition(condition, f"where{number}", values))
    return conditions


def postgres_path(path: JsonPath) -> str:
    """Return a path in PostgreSQL's form; a name in it has neither `"` nor a backslash."""
    steps = (f'."{step}"' if isinstance(step, str) else f"[{step}]" for step in path.steps)
    return "strict $" + "".join(steps)


def bounded_number(number: str) -> str:
    """Return a number of JSON, or the nearest one that PostgreSQL has."""
    value = Decimal(number)
    if value and value.adjusted() > _GREATEST:
        return "Infinity" if value > 0 else "-Infinity"
    if value and value.adjusted() < _SMALLEST:
        return "1e-16000" if value > 0 else "-1e-16000"
    return number


def _condition(condition: Condition, name: str, values: dict[str, Any]) -> str:
    column = "meta" if condition.in_meta else "body"
    values[f"{name}_path"] = postgres_path(condition.path)
    if condition.operator == "exists":
        test = f"{_VALUE} IS NOT NULL"
    elif condition.operator == "contains":
        test = _contains(condition, name, values)
    elif condition.operator in ("=", "!="):
        equal = _equals(condition, name, values)
        test = equal if condition.operator == "=" else f"{_VALUE} IS NOT NULL AND NOT ({equal})"
    else:
        test = _order(condition, name, values)
    # OFFSET keeps the value from being taken out of the body once for each mention.
    return (
        f"(SELECT coalesce({test}, false) FROM "
        f"(SELECT appliance_value({column}, :{name}_path) AS value OFFSET 0) AS found)"
    )


def _contains(condition: Condition, name: str, values: dict[str, Any]) -> str:
    """Return the test whether a text has this part, or an array this element."""
    values[name] = condition.value
    # The words true and false are elements as SQLite has them: 1 and 0.
    return (
        f"CASE jsonb_typeof({_VALUE}) WHEN 'string' THEN strpos({_TEXT}, :{name}) > 0 "
        f"WHEN 'array' THEN EXISTS (SELECT 1 FROM jsonb_array_elements({_VALUE}) AS element "
        "WHERE CASE jsonb_typeof(element) "
        f"WHEN 'string' THEN element #>> '{{}}' = :{name} "
        f"WHEN 'number' THEN element #>> '{{}}' = :{name} "
        f"WHEN 'boolean' THEN CASE WHEN element = 'true' THEN '1' ELSE '0' END = :{name} "
        "ELSE false END) ELSE false END"
    )


def _equals(condition: Condition, name: str, values: dict[str, Any]) -> str:
    """Return the test whether the value is this text or, unquoted, this number or word."""
    values[name] = condition.value
    branches = f"WHEN 'string' THEN {_TEXT} = :{name}"
    if condition.word == "null":
        branches += " WHEN 'null' THEN true"
    elif condition.word is not None:
        branches += f" WHEN 'boolean' THEN {_VALUE}::text = :{name}"
    if condition.number is not None:
        branches += f" WHEN 'number' THEN {_number_test(condition.number, '=', name, values)}"
    return f"CASE jsonb_typeof({_VALUE}) {branches} ELSE false END"


def _order(condition: Condition, name: str, values: dict[str, Any]) -> str:
    """Return the test of <, <=, > or >=: numbers with a number, texts with anything else."""
    if condition.number is None:
        values[name] = condition.value
        branch = f"WHEN 'string' THEN {_TEXT} {condition.operator} :{name} COLLATE \"C\""
    else:
        number = _number_test(condition.number, condition.operator, name, values)
        branch = f"WHEN 'number' THEN {number}"
    return f"CASE jsonb_typeof({_VALUE}) {branch} ELSE false END"


def _number_test(number: str, operator: str, name: str, values: dict[str, Any]) -> str:
    values[f"{name}_number"] = bounded_number(number)
    return f"({_TEXT})::numeric {operator} :{name}_number::numeric"
