"""The shape of JSON bodies, and views made of it."""

import orjson
from hypothesis import given
from hypothesis import strategies as st

from appliance.model.conditions import json_path
from appliance.model.shape import shape_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


def test_a_shape_has_keys_in_the_order_in_which_they_came_with_kinds_and_numbers():
    shape = shape_of(
        [
            b'{"b": 1, "a": {"x": "text", "y": [1]}}',
            b'{"a": {"x": 1.5, "z": {}}, "c": null, "b": true}',
            b"no JSON",
            b"[1]",
        ]
    )
    assert (shape.bodies, shape.json, shape.left_out) == (4, 3, False)
    assert [(key.path, key.bodies, key.kinds) for key in shape.keys.values()] == [
        ("b", 2, {"integer": 1, "boolean": 1}),
        ("a.x", 2, {"text": 1, "number": 1}),
        ("a.y", 1, {"array": 1}),
        ("a.z", 1, {"object": 1}),
        ("c", 1, {"null": 1}),
    ]


def test_a_shape_is_bounded_in_keys_and_depth_and_says_what_it_leaves_out():
    many = shape_of([orjson.dumps({f"k{n}": 1 for n in range(500)})])
    assert (len(many.keys), many.left_out) == (200, True)
    deep = shape_of([b'{"a":' * 50 + b"1" + b"}" * 50])
    assert list(deep.keys) == ["a.a.a.a"]
    dollar = shape_of([b'{"$": {"a": 1, "$": 2}, "$x": 3}'])
    assert list(dollar.keys) == ['["$"].a', '["$"]["$"]', "$x"]
    odd = shape_of([orjson.dumps({'"': 1, "\\": 1, "": 1, "a b": 1, "x" * 200: 1})])
    assert (list(odd.keys), odd.left_out) == (['["a b"]'], True)


@given(st.dictionaries(st.text(max_size=8), JSON, max_size=5))
def test_every_path_of_a_shape_leads_to_its_value(document):
    shape = shape_of([orjson.dumps(document)])
    for path, key in shape.keys.items():
        value = json_path(path).find(document)
        assert value is not None or "null" in key.kinds
