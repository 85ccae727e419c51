"""Columns out of JSON bodies, and JSON that is shown with every token as it came."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.api.views import formats
from appliance.api.views.columns import JsonColumns, json_columns
from appliance.errors import InputError
from appliance.model.json_pretty import compact, exact, pretty
from appliance.store.rows import StoredMessage

TIME = "2026-01-31T12:00:00.000Z"
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


def cells(body, columns, *, for_excel=False):
    """The cells of one message, as a program reads them back."""
    text = 1 if isinstance(body, str) else 0
    raw = body.encode() if text else body
    row = StoredMessage(1, "an-id", "a-topic", TIME, text, raw, None, None)
    made = JsonColumns(columns)
    table = b"".join(
        formats.csv_table([[row]], made.titles, made.cells, for_excel=for_excel)
    ).decode("utf-8-sig")
    header, line = csv.reader(io.StringIO(table, newline=""))
    assert header[:3] == ["id", "topic", "received_at"]
    assert line[:3] == ["an-id", "a-topic", TIME]
    return dict(zip(header[3:], line[3:], strict=True))


def test_a_column_is_the_value_at_its_path_as_it_came():
    body = (
        '{"device":"d1","data":{"temp":-1.50,"n":12345678901234567890123},"tags":["a","b"],'
        '"ok":true,"nothing":null,"sub":{"a":1.0,"b":[{}]},"a b":"c,d","big":1e400}'
    )
    columns = 'device,data.temp,data.n,tags[1],ok,nothing,absent.x,sub,["a b"],$.device,tags,big'
    assert cells(body, columns) == {
        "device": "d1", "data.temp": "-1.50", "data.n": "12345678901234567890123", "tags[1]": "b",
        "ok": "true", "nothing": "", "absent.x": "", "sub": '{"a":1.0,"b":[{}]}',
        '["a b"]': "c,d", "$.device": "d1", "tags": '["a","b"]', "big": "1e400",
    }  # fmt: skip


@pytest.mark.parametrize(
    "body",
    ["", "no json", '{"a":1}{', "[" * 100_000, '{"a":NaN}', b'{"a":1}\xff', b'\xff\xfe{\0"\0'],
)
def test_a_body_that_is_no_json_has_empty_cells(body):
    assert cells(body, "a") == {"a": ""}


def test_text_in_a_column_is_as_harmless_as_a_whole_body():
    assert cells('{"a":"=1+1","b":"-5","c":-5}', "a,b,c") == {"a": "'=1+1", "b": "-5", "c": "-5"}
    assert cells('{"n":1234567890123456}', "n", for_excel=True) == {"n": '="1234567890123456"'}


def test_a_lone_surrogate_is_shown_as_the_sender_wrote_it():
    assert cells('{"a":"x\\ud800"}', "a") == {"a": "x\\ud800"}


def test_the_last_of_several_keys_of_one_name_counts():
    assert cells('{"a":1,"a":2}', "a") == {"a": "2"}


@pytest.mark.parametrize(
    "columns", ["", "a,", "a..b", "a b", "[x]", "$", "a[-1]", 'a["', "x" * 300, ",".join("a" * 101)]
)
def test_columns_that_are_no_paths_are_refused_in_words(columns):
    with pytest.raises(InputError, match="columns: "):
        JsonColumns(columns)


def test_columns_are_for_csv_only():
    assert json_columns("json", None) is None
    with pytest.raises(InputError, match="needs format=csv"):
        json_columns("ndjson", "a")


@given(VALUES, st.booleans())
def test_json_that_is_read_exactly_and_written_again_is_the_same(value, escaped):
    text = json.dumps(value, ensure_ascii=escaped)
    assert json.loads(compact(exact(text))) == value
    assert json.loads(pretty(text)) == value


def test_deep_json_is_written_again_without_a_recursion():
    value = exact("[" * 300 + "]" * 300)
    assert compact(value) == "[" * 300 + "]" * 300
    nested = "x"
    for _ in range(50_000):
        nested = [nested]
    assert compact(nested) == "[" * 50_000 + '"x"' + "]" * 50_000


PRETTY = """\
{
  "n": 12345678901234567890123,
  "f": 1.10,
  "a": 1,
  "a": 2,
  "s": "\\u00e9\\/é",
  "e": [],
  "o": {},
  "l": [
    1,
    2
  ]
}"""


def test_pretty_json_keeps_numbers_keys_and_escapes_as_they_came():
    text = (
        '{"n":12345678901234567890123,"f":1.10,"a":1,"a":2,"s":"\\u00e9\\/é","e":[],"o":{ },'
        '"l":[1,2]}'
    )
    assert pretty(text) == PRETTY
    assert pretty(PRETTY) == PRETTY


@pytest.mark.parametrize(
    "text", ["", "{", "nope", "NaN", "[Infinity]", "[1,]", '{"a":1}{', "[" * 100_000]
)
def test_text_that_is_no_json_is_not_laid_out(text):
    assert pretty(text) is None
