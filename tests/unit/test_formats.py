import csv
import io
import json

import pytest

from appliance.api.views import formats
from appliance.store.rows import StoredMessage


def row(body, text=1, content_type=None, meta=None):
    time = "2026-01-31T12:00:00.000Z"
    return StoredMessage(1, "an-id", "a-topic", time, text, body, content_type, meta)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_a_cell_that_a_spreadsheet_would_run_gets_an_apostrophe(start):
    assert formats.cell(start + "1+1") == "'" + start + "1+1"


@pytest.mark.parametrize(
    "text", ["-3.5", "+4", "-0", "-.5", "-5.", "-1e5", "+6.02E+23", "-273.15", "+491701234567"]
)
def test_cell_that_is_a_number_stays_as_it_is(text):
    assert formats.cell(text) == text
    assert float(formats.cell(text)) == float(text)


@pytest.mark.parametrize(
    "text",
    [
        *("=1+1", "-10 C", "-1+1", "+1-2", "--1", "-", "+", "-.", "-e5", "-1e", "=1", "@1", "-3,5"),
        *("-1\n", "\n-1", "-٣", "-1;=2", "-1|'x'!A", "-inf", "-nan", "+0x10", "-1_000", "- 1"),
    ],
)
def test_cell_that_is_nearly_a_number_gets_an_apostrophe(text):
    assert formats.cell(text) == "'" + text


@pytest.mark.parametrize("text", ["", "a=1", "1-1", " =1", "'=1", "{}"])
def test_other_cells_stay_as_they_are(text):
    assert formats.cell(text) == text


def csv_of(pieces):
    return b"".join(formats.csv_table(pieces, formats.COLUMNS, formats.message_cells))


def test_csv_is_read_back_by_a_csv_reader():
    bodies = ['a "quoted", cell', "two\nlines", "two\r\nlines", "ü", "lone\rreturn", ""]
    table = csv_of([[row(body.encode()) for body in bodies]]).decode()
    header, *rows = csv.reader(io.StringIO(table, newline=""))
    assert tuple(header) == formats.COLUMNS
    assert [cells[4] for cells in rows] == bodies


@pytest.mark.parametrize(
    "text",
    [
        *(
            "007",
            "00",
            "-007",
            "+0049",
            "1234567890123456",
            "-1234567890123456",
            "4006381333931000",
        ),
        *("+491701234567", "12E5", "1e9", "0123456789012345678901"),
    ],
)
def test_digits_that_excel_would_change_are_a_formula_that_says_them(text):
    assert formats.excel_cell(text) == f'="{text}"'
    assert formats.cell(text) == text


@pytest.mark.parametrize("text", ["", "0", "7", "-3.5", "123456789012345", "1.50", "0.5", "x007"])
def test_other_numbers_are_left_to_excel(text):
    assert formats.excel_cell(text) == text


@pytest.mark.parametrize(
    "text",
    ["=1+1", "@SUM(1)", "-10 C", '="007"', "007\n", "=cmd|'/c calc'!A0", "\uff1d1+1", "+", "\t=1"],
)
def test_cell_for_excel_is_no_formula_of_the_sender(text):
    assert not formats.excel_cell(text).startswith(("=", "+", "-", "@", "\t", "\uff1d"))


def test_csv_for_excel_begins_with_a_byte_order_mark_once():
    pieces = [[row("Köln".encode())], [row(b"007")], [row(b'=1+1,"x"')]]
    table = b"".join(
        formats.csv_table(pieces, formats.COLUMNS, formats.message_cells, for_excel=True)
    )
    assert table.startswith(b"\xef\xbb\xbfid,topic,")
    assert table.count(b"\xef\xbb\xbf") == 1
    cells = list(csv.reader(io.StringIO(table.decode("utf-8-sig"), newline="")))
    assert [each[4] for each in cells[1:]] == ["Köln", '="007"', '\'=1+1,"x"']


def test_csv_for_excel_of_nothing_is_a_marked_header():
    table = formats.csv_table([], formats.COLUMNS, formats.message_cells, for_excel=True)
    assert b"".join(table).startswith(b"\xef\xbb\xbfid,")


def test_csv_of_nothing_is_a_header():
    assert csv_of([]) == b"id,topic,received_at,encoding,body,content_type,meta\r\n"


def test_bytes_that_are_no_text_are_base64():
    assert formats.message(row(b"\0\xff", text=0)) == {
        "id": "an-id",
        "topic": "a-topic",
        "received_at": "2026-01-31T12:00:00.000Z",
        "body": "AP8=",
        "encoding": "base64",
        "content_type": None,
        "meta": None,
    }


def test_text_that_another_program_stored_wrongly_is_base64():
    assert formats.message(row(b"\xff", text=1))["encoding"] == "base64"


def test_ndjson_is_one_object_a_line_whatever_the_body():
    table = b"".join(
        formats.ndjson([[row(b"two\nlines")], [row("\u2028".encode())]], formats.message)
    )
    assert [json.loads(line)["body"] for line in table.split(b"\n")[:-1]] == [
        "two\nlines",
        "\u2028",
    ]


def test_message_shows_its_content_type_and_its_meta_as_json():
    shown = formats.message(row(b"x", content_type="text/csv", meta='{"via":"http"}'))
    assert (shown["content_type"], shown["meta"]) == ("text/csv", {"via": "http"})
    plain = formats.message(row(b"x"))
    assert (plain["content_type"], plain["meta"]) == (None, None)


@pytest.mark.parametrize("meta", ["{", "", "\ud800", 5, b"\xff"])
def test_meta_that_another_program_spoiled_is_shown_as_text(meta):
    assert formats.message(row(b"x", meta=meta))["meta"] == str(meta)


def test_csv_has_the_content_type_and_the_meta_as_text():
    table = csv_of([[row(b"x", content_type="=1", meta='{"a":"b"}'), row(b"y")]]).decode()
    _, first, second = csv.reader(io.StringIO(table, newline=""))
    assert first[5:] == ["'=1", '{"a":"b"}']
    assert second[5:] == ["", ""]
