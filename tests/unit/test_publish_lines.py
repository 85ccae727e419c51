"""How a body is cut into lines, and what is said of a bad one."""

import orjson
import pytest

from appliance.api.bodies.lines import _check_json, _line_number, split
from appliance.api.bodies.plan import Form
from appliance.api.publish.receipt import Receipt
from appliance.errors import BodyError, TooLargeError


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        (b"", []),
        (b"\n", []),
        (b"\r\n", []),
        (b"\n\n\r\n\n", []),
        (b"a", [b"a"]),
        (b"a\n", [b"a"]),
        (b"a\r\n", [b"a"]),
        (b"a\nb", [b"a", b"b"]),
        (b"a\nb\n", [b"a", b"b"]),
        (b"a\r\nb\r\n", [b"a", b"b"]),
        (b"a\r\nb\nc\r\nd", [b"a", b"b", b"c", b"d"]),
        (b"\n\na\n\n\nb\n\n", [b"a", b"b"]),
        (b"a\r", [b"a"]),
        (b"a\r\r\n", [b"a\r"]),
        (b"a\rb\n", [b"a\rb"]),
        (b" \n\t\n", [b" ", b"\t"]),
        (b"a\n ", [b"a", b" "]),
        ("x\u2028y\u0085z\x0b\x0c\x1c\n".encode(), ["x\u2028y\u0085z\x0b\x0c\x1c".encode()]),
        (b"\0\n\xff\n", [b"\0", b"\xff"]),
        (b"a\n" * 100_000, [b"a"] * 100_000),
    ],
)
def test_lines_end_with_lf_or_crlf_and_nothing_else(body, lines):
    assert split(body, 100_000) == lines


def test_no_byte_is_lost():
    body = bytes(range(256)).replace(b"\n", b"").replace(b"\r", b"") * 3
    assert b"".join(split(b"\n".join([body, body]), 10)) == body * 2


@pytest.mark.parametrize(
    ("body", "number"),
    [
        (b"{}\nbad\n{}", 2),
        (b"\n\n{}\n\nbad", 5),
        (b"{}\r\n\r\nbad\r\n", 3),
        (b"bad", 1),
        (b"{}\nbad\nbad", 2),
        (b'{"a":NaN}', 1),
        (b"1\n2\n\xff", 3),
        (b'1\n"\\ud800"', 2),
        (b"1\n" + b"[" * 100_000, 2),
        (b"1 2", 1),
        (b"1e999", 1),  # JSON to the letter, but no number that anyone could read back
    ],
)
def test_the_first_bad_line_is_named(body, number):
    with pytest.raises(BodyError, match=rf"^line {number} is not JSON"):
        _check_json(body, split(body, 100_000))


@pytest.mark.parametrize("line", [b"{}", b"1", b'"x"', b" null ", b"1" * 300, b'{"a":1,"a":2}'])
def test_any_json_is_a_line(line):
    _check_json(line, split(line, 10))


def test_line_numbers_count_empty_lines():
    assert _line_number(b"\n\r\nx\r\n", b"x") == 3


def test_an_answer_lists_a_thousand_ids_and_of_more_the_ends():
    prefix = "01890a5d-ac96-774b-8cce-b302"
    for count, listed in [(1, 1), (1000, 1000), (1001, 2), (100_000, 2)]:
        receipt = Receipt("t", Form.LINES, prefix + "00000000", count, "now", is_stored=False)
        status, _, body = receipt.answer(None, "")
        answer = orjson.loads(body)
        assert status == 202
        assert answer["count"] == count
        assert len(answer["ids"]) == listed
        assert answer["ids"][0] == prefix + "00000000"
        assert answer["ids"][-1] == f"{prefix}{count - 1:08x}"


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        (b"\n" * 1000 + b"a\n\r\n\r\n\nb\r\n" + b"\r\n" * 1000, [b"a", b"b"]),
        (b"a\n" + b"\r\r\n" * 8, [b"a"] + [b"\r"] * 8),
        (b"\n" * 100 + b"a\n" * 10 + b"b", [b"a"] * 10 + [b"b"]),
    ],
)
def test_lines_among_countless_empty_ones_are_found(body, lines):
    assert split(body, 10) == lines


def test_lines_that_are_far_too_many_are_refused_before_they_are_made():
    with pytest.raises(TooLargeError, match="more than 10 messages"):
        split(b"a\n" * 100, 10)
