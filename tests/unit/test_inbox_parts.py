"""The parts of inbox addresses: checks of senders, answers, keys. Pure, with hostile input too."""

import json

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from appliance.api.bodies.plan import Form
from appliance.api.http import head
from appliance.api.inbox import challenges, event_keys, inbox_answers
from appliance.api.publish.receipt import Receipt
from appliance.auth.inbox_settings import rules
from appliance.auth.signatures.kinds import KINDS

OPEN = rules("open", {})
SLACK = rules("slack", {})
ID = "01a1fbb5-3c6c-7000-9b39-123500000000"


def head_of(*lines: bytes, method: bytes = b"POST", target: bytes = b"/in/x"):
    """Return a parsed head."""
    return head.parse(b"\r\n".join([b"%b %b HTTP/1.1" % (method, target), *lines]) + b"\r\n\r\n")


def receipt(**changes):
    whole = Receipt("a", Form.WHOLE, ID, 1, "2026-11-27T20:00:00.000Z", is_stored=False)
    return whole._replace(**changes)


# --- checks of senders


@pytest.mark.parametrize(
    ("query", "text"),
    [
        (b"hub.mode=subscribe&hub.challenge=abc", "abc"),
        (b"hub.mode=unsubscribe&hub.topic=x&hub.challenge=a%2Bb", "a+b"),
        (b"challenge=dropbox", "dropbox"),
        (b"hub.challenge=abc", None),
        (b"hub.mode=subscribe", None),
        (b"challenge=" + b"x" * 1025, None),
        (b"challenge=a%0d%0ab", None),
        (b"challenge=", None),
        (b"&" * 5000, None),
        (b"", None),
    ],
)
def test_a_get_repeats_a_challenge_of_its_query_and_nothing_else(query, text):
    answer = challenges.of_get(head_of(method=b"GET", target=b"/in/x?" + query))
    assert answer.status == 200
    assert answer.content_type.startswith("text/plain")
    assert answer.body.decode() == (text or "This address takes messages: send them with POST.\n")


@pytest.mark.parametrize(
    ("kind", "settings", "document", "answer"),
    [
        ("slack", {}, {"type": "url_verification", "challenge": "c"}, b"c"),
        ("slack", {}, {"type": "event_callback", "challenge": "c"}, None),
        ("slack", {"challenge": "none"}, {"type": "url_verification", "challenge": "c"}, None),
        ("slack", {}, {"type": "url_verification", "challenge": 7}, None),
        ("open", {}, {"type": "url_verification", "challenge": "c"}, None),
        ("open", {"challenge": "slack"}, {"type": "url_verification", "challenge": "c"}, b"c"),
        ("open", {"challenge": "json"}, {"challenge": "c"}, b'{"challenge":"c"}'),
        ("open", {"challenge": "json"}, ["challenge"], None),
        ("open", {"challenge": "json"}, {"challenge": "c" * 1025}, None),
    ],
)
def test_a_post_is_a_check_only_where_its_kind_or_a_setting_says_so(
    kind, settings, document, answer
):
    body = json.dumps(document).encode()
    found = challenges.of_post(head_of(), body, rules(kind, settings), ["s"])
    assert (found and found.body) == answer


def test_the_check_of_event_grid_is_answered_only_where_nothing_is_signed():
    asked = head_of(b"aeg-event-type: SubscriptionValidation")
    body = b'[{"data":{"validationCode":"v"}}]'
    assert challenges.of_post(asked, body, OPEN, []).body == b'{"validationResponse":"v"}'
    assert challenges.of_post(asked, body, rules("github", {}), ["s"]) is None
    for other in (b"[]", b"[{}]", b'[{"data":[]}]', b'[{"data":{"validationCode":1}}]', b"{"):
        assert challenges.of_post(asked, other, OPEN, []) is None


def test_an_empty_post_is_a_check_only_with_its_token():
    asked = head_of(target=b"/in/x?validationToken=Validation%3a+1%2b1")
    assert challenges.of_post(asked, b"", OPEN, []).body == b"Validation: 1+1"
    assert challenges.of_post(head_of(), b"", OPEN, []) is None
    assert challenges.of_post(asked, b"", SLACK, ["s"]) is None


@given(body=st.binary(max_size=200), query=st.binary(max_size=60).map(lambda raw: raw.hex()))
def test_any_post_is_a_check_or_a_message(body, query):
    asked = head_of(b"aeg-event-type: SubscriptionValidation", target=b"/in/x?a=" + query.encode())
    for kind in KINDS:
        settings = {"header": "x-a", "challenge": "zoom"} if kind == "hmac" else {}
        challenges.of_post(asked, body, rules(kind, settings), ["s"])


# --- answers


def test_the_answer_to_a_message_is_202_and_to_the_same_again_200():
    assert inbox_answers.of_receipt(receipt(), head_of(), OPEN, None, "")[0] == 202
    again = receipt(is_repeat=True, is_stored=True)
    assert inbox_answers.of_receipt(again, head_of(), OPEN, None, "")[0] == 200
    stored = receipt(is_stored=True)
    assert inbox_answers.of_receipt(stored, head_of(), OPEN, 5.0, "")[0] == 201


def test_every_answer_keeps_the_address_from_other_pages_and_caches():
    for kind in KINDS:
        kind_rules = rules(kind, {"header": "x-a"} if kind == "hmac" else {})
        for reply in (
            inbox_answers.of_receipt(receipt(), head_of(), kind_rules, None, ""),
            inbox_answers.of_get(head_of(method=b"GET"), kind_rules),
            inbox_answers.of_options(head_of(method=b"OPTIONS"), kind_rules),
        ):
            assert b"referrer-policy: no-referrer\r\n" in reply[1], kind
            assert b"cache-control: no-store\r\n" in reply[1], kind
            assert b"x-content-type-options: nosniff\r\n" in reply[1], kind


def test_an_origin_is_named_only_where_the_inbox_names_it():
    some = rules("open", {"origins": ["https://a.example", "https://b.example:8443"]})
    for origin, named in (
        (b"https://a.example", b"https://a.example"),
        (b"https://b.example:8443", b"https://b.example:8443"),
        (b"https://A.example", b"https://A.example"),
        (b"https://a.example.org", b""),
        (b"null", b""),
        (b"", b""),
        (b"https://a.example\xff", b""),
    ):
        assert inbox_answers.allowed_origin(head_of(b"Origin: " + origin), some) == named
    every = rules("open", {"origins": ["*"]})
    assert inbox_answers.allowed_origin(head_of(b"Origin: null"), every) == b"*"
    assert b"vary: origin\r\n" in inbox_answers.common(head_of(), some)


@pytest.mark.parametrize(
    "asked",
    [b"Access-Control-Request-Headers: a,\xc3\xbc", b"WebHook-Request-Origin: \xff",
     b"WebHook-Request-Origin: " + b"a" * 513],
)  # fmt: skip
def test_no_answer_repeats_more_than_a_short_text_of_ascii(asked):
    every = rules("open", {"origins": ["*"]})
    _, headers, _ = inbox_answers.of_options(head_of(asked, b"Origin: x", method=b"OPTIONS"), every)
    assert headers.isascii()
    assert b"aaaa" not in headers
    assert b"allow-headers" not in headers


@given(st.binary(max_size=80).filter(lambda raw: not set(raw) & set(b"\r\n\0")))
def test_no_header_of_a_request_breaks_into_the_answers(value):
    every = rules("form", {"origins": ["*", "https://a.example"]})
    try:
        asked = head_of(
            b"Origin: " + value,
            b"WebHook-Request-Origin: " + value,
            b"Access-Control-Request-Headers: " + value,
            b"Accept: " + value,
            method=b"OPTIONS",
        )
    except head.HeadError:
        reject()
    for _, headers, _ in (
        inbox_answers.of_options(asked, every),
        inbox_answers.of_receipt(receipt(), asked, every, None, ""),
    ):
        lines = headers.split(b"\r\n")
        assert lines.pop() == b""
        assert all(b": " in line and line.isascii() for line in lines)


# --- keys


def test_a_key_is_the_senders_own_before_any_other():
    stripe = rules("stripe", {})
    asked = head_of(b'Idempotency-Key: "k"')
    assert event_keys.find(asked, b'{"id":"evt_1"}', stripe) == ("evt_1", True)
    assert event_keys.find(asked, b"no json", stripe) == ("k", False)
    assert event_keys.find(asked, None, stripe) == ("k", False)
    assert event_keys.find(head_of(), b"{}", stripe) is None
    github = rules("github", {})
    assert event_keys.find(head_of(b"X-GitHub-Delivery: d"), b"{}", github) == ("d", True)
    assert event_keys.find(head_of(b"X-GitHub-Delivery: "), b"{}", github) is None


@pytest.mark.parametrize(
    ("value", "key"),
    [('"a"', "a"), ("7", "7"), ("12345678901234567890123", None), ("true", None), ("1.5", None),
     ("[1]", None), ("null", None), ('""', None)],
)  # fmt: skip
def test_a_key_in_the_body_is_a_text_or_a_whole_number(value, key):
    found = event_keys.find(head_of(), f'{{"id":{value}}}'.encode(), rules("stripe", {}))
    assert (found and found.text) == key


def test_keys_of_two_inboxes_are_never_the_same():
    one = event_keys.EventKey("k", is_senders=True)
    assert event_keys.scoped("a", one) != event_keys.scoped("b", one)
    assert "\0" in event_keys.scoped("a", one)


@given(
    st.binary(max_size=200),
    st.binary(max_size=40).filter(lambda raw: not set(raw) & set(b"\r\n\0")),
)
def test_any_body_and_header_have_a_key_or_none(body, value):
    try:
        asked = head_of(b"X-GitHub-Delivery: " + value, b"Idempotency-Key: " + value)
    except head.HeadError:
        reject()
    for kind in ("open", "github", "stripe"):
        found = event_keys.find(asked, body, rules(kind, {}))
        assert found is None or found.text
