import pytest

from appliance.api.views import parameters
from appliance.errors import InputError
from appliance.model import cursors

#: 2026-01-31T12:00:00Z
NOW = 1769860800.0


@pytest.mark.parametrize("seq", [0, 1, 17, 2**53, 2**63 - 1])
def test_a_cursor_is_read_back(seq):
    assert parameters.parse_seq_cursor("after", parameters.seq_cursor(seq)) == seq


def test_a_cursor_of_a_topic_is_read_back():
    assert parameters.parse_topic_cursor("after", parameters.topic_cursor("a.b-c_9")) == "a.b-c_9"


def test_zero_stands_for_the_beginning():
    assert parameters.parse_seq_cursor("after", "0") == 0
    assert parameters.parse_seq_cursor("after", None) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "=",
        "MTE=",
        "MTE ",
        "MTE\n",
        "é",
        "\udcff",
        "\0",
        "A" * 10_000,
        cursors._encode("-1"),
        cursors._encode("01"),
        cursors._encode(" 1"),
        cursors._encode("1.0"),
        cursors._encode(str(2**63)),
        cursors._encode("9" * 400),
        "Mjc",  # another version
        "MTF",  # the same bits, but another spelling
    ],
)
def test_a_bad_cursor_is_refused_by_the_parameters_name(text):
    with pytest.raises(InputError, match=r"^before: not a cursor"):
        parameters.parse_seq_cursor("before", text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30s", "2026-01-31T11:59:30.000Z"),
        ("10m", "2026-01-31T11:50:00.000Z"),
        ("2h", "2026-01-31T10:00:00.000Z"),
        ("1d", "2026-01-30T12:00:00.000Z"),
        ("1w", "2026-01-24T12:00:00.000Z"),
        ("999999999w", "1970-01-01T00:00:00.000Z"),
        ("2026-01-31", "2026-01-31T00:00:00.000Z"),
        ("2026-01-31T12:34:56.789Z", "2026-01-31T12:34:56.789Z"),
        ("2026-01-31T12:34:56", "2026-01-31T12:34:56.000Z"),
        ("2026-01-31T12:34:56+02:00", "2026-01-31T10:34:56.000Z"),
        ("2026-01-31T12:34:56 02:00", "2026-01-31T10:34:56.000Z"),
        ("2026-01-31T12:34:56-0530", "2026-01-31T18:04:56.000Z"),
        ("1970-01-01", "1970-01-01T00:00:00.000Z"),
        ("20260131", "2026-01-31T00:00:00.000Z"),
        ("2026-W05", "2026-01-26T00:00:00.000Z"),
        ("1769860800", "2026-01-31T12:00:00.000Z"),
        ("0000000000", "1970-01-01T00:00:00.000Z"),
        ("9999999999", "2286-11-20T17:46:39.000Z"),
        ("1769860800123", "2026-01-31T12:00:00.123Z"),
        ("1796012812345", "2026-11-30T04:26:52.345Z"),
        ("0000000000001", "1970-01-01T00:00:00.001Z"),
        ("9999-12-31T23:59:59-12:00", "9999-12-31T23:59:59.000Z"),
    ],
)
def test_since_is_a_span_or_a_time(text, expected):
    assert parameters.moment("since", text, NOW) == expected


def test_since_may_be_absent():
    assert parameters.moment("since", None) is None


@pytest.mark.parametrize(
    "text",
    [
        *("", "10", "m", "-5m", "1.5h", "10 m", "10M", "٣m", "1y", "yesterday", "\0", "9" * 99),
        *("123456789", "17698608001", "176986080012", "17698608001234", "٣" * 10, "1769860800.5"),
        *("-1769860800", "+1769860800", "1769860800s0", "1769860800\n", "2026-01-31\n"),
        *("2026013112345Z", "2026-01-31x12:00", "202601315T"),
    ],
)
def test_a_bad_since_is_refused(text):
    with pytest.raises(InputError, match=r"^since: "):
        parameters.moment("since", text)


@pytest.mark.parametrize(
    "text", ["0001-01-01T00:00:00Z", "17960101", "1969-12-31T23:59:59Z", "1970-01-01T00:00+01:00"]
)
def test_since_before_1970_is_refused(text):
    with pytest.raises(InputError, match=r"^since: .*1970"):
        parameters.moment("since", text)


def test_until_is_named_where_it_is_bad():
    with pytest.raises(InputError, match=r"^until: expected a span"):
        parameters.moment("until", "10")
    with pytest.raises(InputError, match=r"^until: .*1970"):
        parameters.moment("until", "1969-12-31")


def test_for_excel_needs_csv():
    assert parameters.for_excel("csv", "excel") is True
    assert parameters.for_excel("csv", "any") is False
    assert parameters.for_excel("json", None) is False
    with pytest.raises(InputError, match="for: expected one of any, excel"):
        parameters.for_excel("csv", "Excel")
    with pytest.raises(InputError, match="for: needs format=csv"):
        parameters.for_excel("ndjson", "excel")


@pytest.mark.parametrize("text", ["", "0", "-1", "+1", "1001", "1e2", "٣", " 1", "1\n", "9" * 400])
def test_a_bad_limit_is_refused(text):
    with pytest.raises(InputError, match=r"^limit: .* from 1 to 1000"):
        parameters.page_limit(text)


def test_limits_are_read():
    assert parameters.page_limit("1000") == 1000
    assert parameters.page_limit(None) == 100
    assert parameters.export_limit("1001") == 1001
    assert parameters.export_limit(None) is None


@pytest.mark.parametrize("text", ["", "0", "-1", "1000000000001", "1e2", "٣", "9" * 400])
def test_limit_of_an_export_is_refused_outside_its_bounds(text):
    with pytest.raises(InputError, match=r"^limit: .* from 1 to 1000000000000"):
        parameters.export_limit(text)


def test_an_unknown_parameter_is_refused_with_the_known_ones_named():
    with pytest.raises(InputError, match="'q'; this address takes after, limit"):
        parameters.read({"q": ["x"]}, ("after", "limit"))
    with pytest.raises(InputError, match="takes none"):
        parameters.read({"q": ["x"]}, ())


def test_a_parameter_given_twice_is_refused():
    with pytest.raises(InputError, match="limit: expected once, came 2 times"):
        parameters.read({"limit": ["1", "1"]}, ("limit",))


def test_a_choice_is_one_of_the_words():
    assert parameters.choice("format", None, ("json", "csv")) == "json"
    assert parameters.choice("format", "csv", ("json", "csv")) == "csv"
    with pytest.raises(InputError, match="format: expected one of json, csv"):
        parameters.choice("format", "CSV", ("json", "csv"))
