"""Meta: what is kept of a request, within bounds, and never a secret."""

import json

import pytest

from appliance.api.http import head as heads
from appliance.api.publish.request_meta import RequestMeta
from appliance.auth.principal import ADMINISTRATOR, Principal, Right
from appliance.model import meta

TILL = Principal("till", frozenset({Right.PUBLISH}))


def around(*headers, principal=ADMINISTRATOR, target=b"/v1/topics/t/messages", **options):
    """Return the RequestMeta of a request with these headers."""
    lines = [b"POST " + target + b" HTTP/1.1", b"Host: h", *headers, b"", b""]
    return RequestMeta.of(heads.parse(b"\r\n".join(lines)), principal, **options)


def test_plain_request_of_the_administrators_has_no_meta():
    plain = around(b"User-Agent: curl/8", b"Accept: */*", b"Date: now", b"Content-Type: text/csv")
    assert plain.is_empty
    assert plain.text("127.0.0.1", token="administrator") is None
    assert plain.content_type == "text/csv"


def test_meta_has_the_headers_that_say_what_a_message_is():
    text = around(
        b"X-GitHub-Event: push", b"X-Hub-Signature-256: sha256=00", b"User-Agent: GitHub-Hookshot",
        b"ce-type: order", b"Accept: */*", b"X-Other: no",
    ).text("203.0.113.9", token="administrator")  # fmt: skip
    assert json.loads(text) == {
        "via": "http", "method": "POST", "remote": "203.0.113.9", "token": "administrator",
        "headers": {"x-github-event": "push", "x-hub-signature-256": "sha256=00",
                    "user-agent": "GitHub-Hookshot", "ce-type": "order"},
    }  # fmt: skip


@pytest.mark.parametrize(
    "name",
    ["Authorization", "Proxy-Authorization", "Cookie", "X-Api-Key", "X-Gitlab-Token",
     "X-Goog-Channel-Token", "X-Auth", "ce-secret", "X-GitHub-Password", "X-Amz-Sns-Session"],
)  # fmt: skip
def test_header_that_can_hold_a_secret_is_never_kept(name):
    keep = [name.lower(), "x-*"]
    text = around(f"{name}: hunter2".encode(), keep=keep, always=True).text("::1")
    assert "hunter2" not in text


def test_address_can_choose_further_headers_by_name_and_by_prefix():
    text = around(b"X-Device: 7", b"X-Till-No: 3", b"X-Not: 1", keep=["x-device", "x-till-*"])
    assert json.loads(text.text("::1"))["headers"] == {"x-device": "7", "x-till-no": "3"}


def test_meta_of_a_named_token_or_of_the_command_line_is_there_without_such_a_header():
    assert json.loads(around(principal=TILL).text("::1", token="till"))["token"] == "till"
    assert json.loads(around(b"User-Agent: appliance/1.2").text("::1"))["via"] == "cli"


def test_query_is_kept_where_it_belongs_to_the_message():
    target = b"/in/x?device=7&t=%C3%A9"
    assert json.loads(around(target=target, query=True, always=True).text("::1"))["query"] == (
        "device=7&t=%C3%A9"
    )
    assert "query" not in json.loads(around(target=target, always=True).text("::1"))


def test_headers_of_one_name_are_joined_in_order():
    text = around(b"ce-a: 1", b"ce-a: 2").text("::1")
    assert json.loads(text)["headers"]["ce-a"] == "1, 2"


def test_meta_of_another_address_is_another_though_the_head_is_remembered():
    same = around(b"ce-a: 1")
    assert [json.loads(same.text(a))["remote"] for a in ("::1", "::1", "10.0.0.1")] == [
        "::1", "::1", "10.0.0.1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "value", ["\x01" * 900, "\u00e9" * 3000, '"' * 4000, "x" * 5000], ids=lambda v: repr(v[:4])
)
def test_meta_is_bounded_whatever_the_headers(value):
    headers = {f"ce-{n:03d}" + "n" * 70: value for n in range(100)}
    text = meta.encode({"via": "http", "query": "q" * 2048}, headers)
    assert len(text.encode()) <= meta.MAX_BYTES
    assert meta.is_sound(text)
    members = json.loads(text)
    assert members["dropped"]
    assert not set(members["dropped"]) & members.get("headers", {}).keys()


def test_header_without_room_is_named_and_a_small_one_behind_it_is_kept():
    members = json.loads(meta.encode({}, {"ce-large": "x" * 5000, "ce-small": "y"}))
    assert members == {"headers": {"ce-small": "y"}, "dropped": ["ce-large"]}


def test_members_without_room_are_an_error():
    with pytest.raises(ValueError, match="8192 at most"):
        meta.encode({"a": "x" * 9000}, {})
    with pytest.raises(ValueError, match="8192 at most"):
        meta.extended(None, {"a": "x" * 9000})


def test_meta_of_nothing_is_none():
    assert meta.encode({"token": None}, {}) is None
    assert meta.extended(None, {"a": None}) is None


def test_extended_meta_has_the_members_of_both():
    assert json.loads(meta.extended('{"a":1,"b":2}', {"b": 3, "c": None})) == {"a": 1, "b": 3}


@pytest.mark.parametrize(
    "text",
    ["", "x", "[]", "null", "7", "{", '{"a":NaN}', '{"a":"\\ud800"}', "{}\0", None, 7, b"{}",
     '{"a":' + "[" * 1000 + "]" * 1000 + "}", '{"a":"' + "x" * 8192 + '"}', '{"\ud800":1}'],
    ids=lambda t: repr(t)[:20],
)  # fmt: skip
def test_text_that_sqlite_or_the_bound_refuses_is_not_sound(text):
    assert not meta.is_sound(text)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (b"text/csv", "text/csv"),
        (b" a/b; c=d ", "a/b; c=d"),
        (b"", None),
        (None, None),
        (b"\xff/a", None),
        ("a" * 255, "a" * 255),
        ("a" * 256, None),
    ],
)
def test_content_type_is_kept_as_it_came_where_it_can_be_one(value, wanted):
    assert meta.content_type(value) == wanted
