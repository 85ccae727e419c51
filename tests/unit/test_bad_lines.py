"""Batches whose bad lines become dead letters: which are bad, and how they travel."""

import json

import orjson
import pytest

from appliance import config as configuration
from appliance.api.bodies import bad_lines
from appliance.api.bodies.bad_lines import MAX_BAD, find, sifted_envelope, summary
from appliance.api.bodies.lines import split
from appliance.api.bodies.plan import Form
from appliance.api.publish.receipt import Receipt
from appliance.errors import BodyError, TooLargeError
from appliance.model.ids import ids_from
from appliance.model.wire import unpack

FIRST = "01890a5d-ac96-774b-8cce-b30200000000"
TIME = "2026-01-02T03:04:05.678Z"
META = '{"via":"http","headers":{"x-event-id":"7"}}'
HOSTILE = [
    b'{"t":NaN}', b"Infinity", b"1e400", b'"\\ud83d"', b"[" * 2000, b"\xff", b"{", b"'a'", b" ",
    b"\xef\xbb\xbf{}", b'{"a":1}{"b":2}', b"\0", b"\xed\xa0\x80",
]  # fmt: skip


@pytest.fixture
def config():
    return configuration.load(
        {"APPLIANCE_MAX_MESSAGE_BYTES": "3000", "APPLIANCE_MAX_BATCH_MESSAGES": "20000"}
    )


def bad(config, body, form=Form.NDJSON, first_line=1):
    return find(form, body, split(body, 100_000), config, first_line)


def test_bad_lines_are_found_whatever_is_in_them(config):
    body = b"\n\r\n".join(b for line in HOSTILE for b in (b'{"good":1}', line))
    found = bad(config, body)
    wrong = {each.place for each in found}
    for place, line in enumerate(split(body, 100_000)):
        try:
            orjson.loads(line)
        except ValueError:
            assert place in wrong
        else:
            assert place not in wrong
    assert len(found) >= len(HOSTILE) - 2
    assert {each.reason for each in found} == {"not-json"}
    assert all(len(each.error) <= 300 and each.error.startswith("line ") for each in found)


def test_bad_lines_are_numbered_as_in_the_file_that_they_are_from(config):
    (found,) = bad(config, b"\n\r\n{}\n\nno\n1\n", first_line=5001)
    assert (found.place, found.line, found.reason) == (1, 5005, "not-json")
    assert found.error.startswith("line 5005 is not JSON (")


def test_bad_lines_of_a_text_are_those_that_are_too_long(config):
    found = bad(config, b"no json\n" + b"x" * 3001 + b"\n" + b"y" * 3000, Form.LINES)
    assert [(each.line, each.reason) for each in found] == [(2, "too-large")]
    assert found[0].error == "line 2 is longer than 3000 bytes"


def test_bad_lines_beyond_their_limit_refuse_the_request(config):
    assert len(bad(config, b"{}\n" + b"no\n" * MAX_BAD)) == MAX_BAD
    with pytest.raises(BodyError, match=r"^10001 lines are bad.* the first is line 2: not JSON"):
        bad(config, b"{}\n" + b"no\n" * (MAX_BAD + 1))
    with pytest.raises(TooLargeError, match="20001 messages"):
        bad(config, b"1\n" * 20_001)
    with pytest.raises(BodyError, match="no line that is not empty"):
        bad(config, b"\n\r\n")


def test_a_sifted_envelope_holds_all_lines_in_order_and_marks_the_bad_ones(config):
    body = b'{"a":1}\n\nno\n\xff\n[2]\n'
    lines = split(body, 100_000)
    envelope = sifted_envelope(
        "t", FIRST, TIME, lines, bad(config, body), "application/x-ndjson", META
    )
    messages = unpack(envelope)
    assert [message.id for message in messages] == ids_from(FIRST, 4)
    assert [message.body for message in messages] == ['{"a":1}', "no", b"\xff", "[2]"]
    assert [message.dead and message.dead[0] for message in messages] == [
        None, "not-json", "not-json", None,
    ]  # fmt: skip
    assert {message.content_type for message in messages} == {"application/x-ndjson"}
    assert messages[0].meta == messages[3].meta == META
    assert json.loads(messages[1].meta) == json.loads(META) | {"line": 3}
    assert (envelope.count, envelope.size) == (4, 7 + 2 + 1 + 3)


def test_a_sifted_envelope_stays_small_whatever_the_headers_are(config):
    meta = json.dumps({"via": "http", "headers": {"x-event-id": "e" * 4000, "x-topic": "t" * 3000}})
    body = b"{}\n" * 10_000 + b"no\n" * MAX_BAD
    lines = split(body, 100_000)
    envelope = sifted_envelope("t", FIRST, TIME, lines, bad(config, body), None, meta)
    assert len(envelope.body) < 8 * 2**20
    messages = unpack(envelope)
    assert messages[0].meta == meta
    assert json.loads(messages[-1].meta) == {
        "via": "http", "dropped": ["x-event-id", "x-topic"], "line": 20_000,
    }  # fmt: skip


def test_a_sifted_envelope_has_room_for_the_line_beside_a_full_meta(config):
    meta = json.dumps({"headers": {"x-event-id": "e" * 4090, "x-topic": "t" * 4054}})
    (message,) = unpack(sifted_envelope("t", FIRST, TIME, [b"no"], bad(config, b"no"), None, meta))
    assert json.loads(message.meta)["line"] == 1


def test_a_sifted_receipt_lists_the_messages_that_become_rows(config):
    body = b"no\n1\n2\nno\n"
    receipt = Receipt("t", Form.NDJSON, FIRST, 4, TIME, False, bad(config, body))
    answer = orjson.loads(receipt.answer(None, "")[2])
    assert answer["count"] == 2
    assert answer["ids"] == ids_from(FIRST, 4)[1:3]
    assert answer["dead"] == {"count": 2, "reasons": {"not-json": 2}, "lines": [1, 4]}
    assert receipt.last_id == ids_from(FIRST, 4)[2]


def test_a_sifted_receipt_without_a_good_line_has_no_ids(config):
    receipt = Receipt("t", Form.NDJSON, FIRST, 1, TIME, False, bad(config, b"no"))
    assert receipt.last_id is None
    assert orjson.loads(receipt.answer(5.0, "")[2])["ids"] == []


def test_a_summary_lists_the_first_hundred_lines(config):
    found = bad(config, b"no\n" * 5000)
    assert summary(found)["count"] == 5000
    assert summary(found)["lines"] == list(range(1, 101))


def test_reasons_are_stable_words():
    assert (bad_lines.NOT_JSON, bad_lines.TOO_LARGE) == ("not-json", "too-large")
