"""JSON as lines: the tokens as they came, folded by level, faults where they are."""

import json
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.console.json_lines import JsonFaultError, TooManyLines, json_lines
from appliance.model.conditions import parse_condition

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=30,
)  # fmt: skip


def shown(text):
    return [
        "  " * line.depth + "".join(t.text for t in line.tokens if t.kind != "again")
        for line in json_lines(text)
    ]


def test_numbers_and_keys_are_shown_as_they_came():
    text = '{"b":9223372036854775807, "a" : 1e400,"b":1.10,"c":-0.0E+07,"\\u0061":"\\ud800"}'
    assert shown(text) == [
        "{",
        '  "b": 9223372036854775807,',
        '  "a": 1e400,',
        '  "b": 1.10,',
        '  "c": -0.0E+07,',
        '  "\\u0061": "\\ud800"',
        "}",
    ]
    marked = [line for line in json_lines(text) if any(t.kind == "again" for t in line.tokens)]
    assert [line.tokens[0].text for line in marked] == ['"b"']


def test_lines_say_their_place_and_the_condition_that_finds_them():
    lines = json_lines('{"a": {"b c": [1, {"d": "x"}], "e\\n": 2}, "f": []}')
    assert {line.path: line.condition for line in lines if line.condition} == {
        '$.a["b c"][0]': 'a["b c"][0]=1',
        '$.a["b c"][1].d': 'a["b c"][1].d="x"',
    }
    for line in lines:
        if line.condition:
            parse_condition(line.condition)
    assert [line.inside for line in lines if line.opens] == [2, 2, 2, 1]


def test_a_thousand_levels_and_more_are_shown():
    for depth in (1000, 2400):
        lines = shown("[" * depth + "1" + "]" * depth)
        assert len(lines) == 2 * depth + 1
        assert lines[depth].strip() == "1"


def test_more_lines_than_are_shown_end_the_work_early():
    begin = time.process_time()
    with pytest.raises(TooManyLines):
        json_lines("[" + "1," * 3_000_000)
    assert time.process_time() - begin < 2


@pytest.mark.parametrize(
    ("text", "place", "expected"),
    [
        ("", 0, "a value"),
        ('{"a": 1,\n "b": nope}', 15, "JSON"),
        ('{"a" 1}', 5, ":"),
        ('{"a": }', 6, "a value"),
        ("[1 2]", 3, ", or ]"),
        ("[1,]", 3, "a value"),
        ('{"a": 1', 7, ", or }"),
        ("{1: 2}", 1, "a key in quotes"),
        ("1 2", 2, "nothing more"),
        ("[01]", 1, "JSON"),
        ("[1.]", 1, "JSON"),
        ("[+1]", 1, "JSON"),
        ("[NaN]", 1, "JSON"),
        ('["a\nb"]', 1, "JSON"),
        ('["\\x"]', 1, "JSON"),
        ("[1}", 2, ", or ]"),
        ("]", 0, "a value"),
        ("truely", 0, "JSON"),
        ("\u00a01", 0, "JSON"),
    ],
)
def test_a_fault_is_named_where_it_is(text, place, expected):
    with pytest.raises(JsonFaultError) as caught:
        json_lines(text)
    assert (caught.value.place, caught.value.expected) == (place, expected)


@given(VALUES, st.sampled_from([None, 1, "\t"]), st.booleans())
def test_all_json_is_the_same_value_when_it_is_laid_out(value, indent, ascii_only):
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    assert json.loads("\n".join(shown(text))) == value


@given(st.text(alphabet='{}[],:"\\0123eE+-. \ntrufalsn', max_size=40))
def test_a_text_is_laid_out_if_a_parser_takes_it(text):
    try:
        json.loads(text, parse_constant=lambda _: 1 / 0)
        is_json = True
    except (ValueError, ZeroDivisionError, RecursionError):
        is_json = False
    try:
        json_lines(text)
    except JsonFaultError:
        assert not is_json
    else:
        assert is_json


def test_random_cuts_of_json_are_faults_and_nothing_else():
    text = json.dumps({"a": [1, 2.5, "x\u00df", None, {"b": [[], {}]}], "c": -1e-7})
    chance = random.Random(1)
    for _ in range(300):
        cut = text[: chance.randrange(len(text))]
        with pytest.raises(JsonFaultError):
            json_lines(cut)
