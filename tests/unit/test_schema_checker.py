"""JSON Schemas: which are taken, what they say of bodies, and that none takes long."""

import random
import time

import orjson
import pytest

from appliance.errors import InputError
from appliance.schemas.checker import MAX_SCHEMA_BYTES, SchemaChecker
from appliance.schemas.cost import MAX_COST, cost_of

ORDER = {
    "type": "object",
    "required": ["id"],
    "properties": {
        "id": {"type": "string", "pattern": "^[a-z0-9-]+$"},
        "at": {"format": "date-time"},
        "items": {"type": "array", "items": {"$ref": "#/$defs/item"}},
    },
    "$defs": {"item": {"type": "object", "required": ["sku"]}},
}


def checker(schema):
    return SchemaChecker(orjson.dumps(schema))


def chain(step, length=30):
    """A schema of few lines that says as much as 2 to the power of `length` lines."""
    parts = {f"a{n}": step({"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2}) for n in range(length)}
    return {"$ref": "#/$defs/a0", "$defs": parts | {f"a{length}": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"id":"a-1"}', None),
        (b'{"id":"a-1","items":[{"sku":1}],"at":"2026-01-02T03:04:05Z"}', None),
        (b"{}", 'the body: "id" is a required property'),
        (b"[]", 'the body: the value is not of type "object"'),
        (b'{"id":"SECRET"}', '/id: the value does not match "^[a-z0-9-]+$"'),
        (b'{"id":"a","items":[{},{"sku":1}]}', '/items/0: "sku" is a required property'),
        (b'{"id":"a","at":"yesterday"}', '/at: the value is not a "date-time"'),
    ],
)  # fmt: skip
def test_an_error_says_where_and_what_without_the_value(body, error):
    assert checker(ORDER).error(body) == error
    assert checker(ORDER).error(body.decode()) == error


@pytest.mark.parametrize(
    "body",
    [b"", b"no", b"\xff", b"\0", b"{", b"NaN", b"1e400", b"[" * 1000 + b"]" * 1000, b"[" * 100_000,
     b'{"a":' * 500 + b"1" + b"}" * 500, b"9" * 5000, b'"\\ud800"', b'{"a":1}x', b"\xef\xbb\xbf{}",
     b'{"' + b"k" * 100_000 + b'":1}', "\x1b[31m\u202e".encode()],
)  # fmt: skip
def test_any_body_is_valid_or_has_a_short_error(body):
    for schema in (ORDER, {"additionalProperties": False}, {"uniqueItems": True, "minimum": 7}):
        error = checker(schema).error(body)
        assert error is None or 0 < len(error) <= 200
        assert error is None or error.isprintable() or "\u202e" in error


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ([1], "is an object"),
        ("type", "is an object"),
        ({"type": "foo"}, "is not valid"),
        ({"$schema": "http://example.com/mine", "type": "object"}, "Unknown meta-schema"),
        ({"$ref": "http://127.0.0.1:9/x"}, "leads out of the schema"),
        ({"$ref": "file:///etc/passwd"}, "leads out of the schema"),
        ({"$ref": "other.json#/a"}, "leads out of the schema"),
        ({"properties": {"a": {"$ref": "https://json-schema.org/draft/2020-12/schema"}}}, "out of"),
        ({"$dynamicRef": "#node"}, "leads out of the schema"),
        ({"$ref": 5}, "leads out of the schema"),
        ({"$ref": "#/$defs/none"}, "leads nowhere"),
        ({"$ref": "#/type", "type": "object"}, "leads nowhere"),
        ({"$ref": "#/allOf/7", "allOf": [{}]}, "leads nowhere"),
        ({"$ref": "#"}, "contains itself"),
        ({"allOf": [{"$ref": "#"}]}, "contains itself"),
        ({"properties": {"c": {"items": {"$ref": "#"}}}}, "contains itself"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"not": {"$ref": "#/$defs/a"}}}}, "contains itself"),
        (chain(lambda part: part), "checks against one place"),
        (chain(lambda part: {"properties": {"x": part}}), "checks against one place"),
        (chain(lambda part: {"items": part}), "checks against one place"),
        ({"enum": list(range(MAX_COST))}, "checks against one place"),
        ({"properties": {"a": {"$id": "http://x/", "$ref": "#"}}}, r"\$id within a schema"),
        ({"allOf": [{"$anchor": "a"}]}, r"\$anchor within a schema"),
        ({"pattern": "("}, "regex"),
        ({"pattern": "(?=a)b"}, "look-around"),
        ({"pattern": r"(a)\1"}, "back-references"),
        ({"pattern": "((a{1,1000}){1,1000}){1,1000}"}, "regex"),
        ({"patternProperties": {f"k{n}": {} for n in range(65)}}, "65 patterns"),
        ({"not": {}} | {"x": [[]] * 10_001}, "too large"),
    ],
)
def test_a_schema_that_is_not_self_contained_sound_and_bounded_is_refused_in_words(schema, words):
    began = time.process_time()
    with pytest.raises(InputError, match=words):
        checker(schema)
    assert time.process_time() - began < 5


def test_a_schema_that_is_too_long_or_no_json_is_refused():
    with pytest.raises(InputError, match="more than 65536 bytes"):
        SchemaChecker(b"{}" + b" " * MAX_SCHEMA_BYTES)
    for text in (b"", b"{", b"\xff", b"\xef\xbb\xbf{}", b"[" * 60_000):
        with pytest.raises(InputError, match="not JSON"):
            SchemaChecker(text)
    nested = b'{"not":' * 80 + b"{}" + b"}" * 80
    with pytest.raises(InputError, match="within one another"):
        SchemaChecker(nested)


def test_a_schema_of_an_earlier_draft_is_taken_as_it_says():
    draft7 = checker(
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "definitions": {"name": {"type": "string"}},
            "properties": {"x": {"$ref": "#/definitions/name"}},
        }
    )
    assert draft7.error(b'{"x":"a"}') is None
    assert draft7.error(b'{"x":1}') == '/x: the value is not of type "string"'


def test_a_name_in_an_example_or_a_constant_is_no_name_of_a_schema():
    schema = {"properties": {"id": {"const": {"$id": "x"}}}, "examples": [{"$anchor": "x"}]}
    assert checker(schema).error(b'{"id":{"$id":"x"}}') is None


def test_a_cost_counts_what_one_place_can_meet():
    assert cost_of(True) == 1
    assert cost_of({"properties": {f"p{n}": {"type": "string"} for n in range(100)}}) == 1
    assert cost_of({"patternProperties": {f"p{n}": {"type": "string"} for n in range(9)}}) == 9
    assert cost_of({"allOf": [{"type": "string"}] * 5}) == 6
    assert cost_of({"items": {"anyOf": [{"minimum": 1}, {"maximum": 2}]}}) == 3


def test_a_body_that_would_take_long_is_not_checked_and_says_so():
    costly = checker({"items": {"allOf": [{"type": "integer"}] * 1000}})
    assert costly.max_bytes < 20_000
    error = costly.error(b"[" + b"1," * costly.max_bytes + b"1]")
    assert error.endswith(f"{costly.max_bytes} at most can be checked by this schema")


SLOW = [
    ({"items": {"allOf": [{"type": "integer"}] * 600}}, b"1"),
    ({"items": {"allOf": [{"pattern": f"^(a|{n})*c"} for n in range(9)]}}, b'"' + b"a" * 99 + b'"'),
    ({"items": {"anyOf": [{"enum": [f"x{n}{k}" for k in range(9)]} for n in range(100)]}}, b'"y"'),
    ({"items": {"unevaluatedProperties": False,
                "anyOf": [{"properties": {f"a{n}": {}}} for n in range(150)]}}, b'{"a0":1,"b":2}'),
    ({"items": {"contains": {"allOf": [{"type": "string"}] * 500}}}, b"[1,2,3,4,5]"),
    ({"uniqueItems": True}, b"[1,2,3]"),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "element"), SLOW)
def test_the_longest_body_is_checked_in_bounded_time(schema, element):
    check = checker(schema)
    count = min(check.max_bytes, 2**20) // (len(element) + 1)
    body = b"[" + b",".join([element] * count) + b"]"
    began = time.process_time()
    check.error(body[: check.max_bytes])
    check.error(body)
    assert time.process_time() - began < 2  # 0.1 to 0.4 on a machine that does nothing else


def test_a_pattern_that_backtracks_takes_no_time():
    began = time.process_time()
    assert checker({"pattern": "^(a+)+$"}).error(b'"' + b"a" * 500_000 + b'!"')
    assert time.process_time() - began < 1


WORDS = [
    None, True, 0, -1, 0.1, 1e308, 2**63, 2**64 - 1, "", "a", "\u202e", "(", "^(a+)+$", "string",
    "object", "date-time", "#", "#/$defs/a", "#/properties/x", "http://x/y", "x" * 300, "\0",
    "http://json-schema.org/draft-07/schema#", "http://json-schema.org/draft-04/schema#",
]  # fmt: skip
KEYWORDS = [
    "type", "enum", "const", "multipleOf", "maximum", "minLength", "pattern", "items",
    "prefixItems", "uniqueItems", "contains", "maxContains", "required", "properties",
    "patternProperties",
    "additionalProperties", "dependencies", "dependentSchemas", "propertyNames", "if", "then",
    "allOf", "anyOf", "oneOf", "not", "$ref", "$defs", "definitions", "format", "contentSchema",
    "unevaluatedItems", "unevaluatedProperties", "$schema", "$id", "$anchor", "$dynamicRef", "x",
]  # fmt: skip


def any_json(chance, depth):
    kind = chance.random()
    if not depth or kind < 0.35:
        return chance.choice(WORDS)
    if kind < 0.5:
        return [any_json(chance, depth - 1) for _ in range(chance.randrange(4))]
    return {
        chance.choice(KEYWORDS): any_json(chance, depth - 1) for _ in range(chance.randrange(5))
    }


@pytest.mark.parametrize("seed", range(4))
def test_any_json_is_a_schema_or_refused_in_words_and_checks_any_json(seed):
    chance = random.Random(seed)
    taken = 0
    for _ in range(1500):
        text = orjson.dumps({chance.choice(KEYWORDS): any_json(chance, 4)})
        try:
            check = SchemaChecker(text)
        except InputError:
            continue
        taken += 1
        for _ in range(3):
            error = check.error(orjson.dumps(any_json(chance, 4)))
            assert error is None or 0 < len(error) <= 200
            orjson.dumps(error)
    assert taken > 100
