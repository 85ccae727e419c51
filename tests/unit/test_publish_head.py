"""What the front door decides on heads, and which of them it knows by heart."""

import pytest

from appliance.api.http.problems import Problem
from appliance.api.publish.head import _KNOWN_HEADS, FrontDoor
from appliance.api.publish.intake import Form, Order
from appliance.auth.bearer import Bearer
from appliance.config import load

AUTHORIZED = (b"authorization", b"Bearer t")
PATH = "/v1/topics/a/messages"


@pytest.fixture
def door():
    return FrontDoor(load({}), Bearer("t"))


def asked(door, *headers, method=b"POST", path=PATH, query=b""):
    return door.decide(method, path, query, [AUTHORIZED, *headers])


def test_what_is_not_published_is_for_the_application_behind(door):
    assert asked(door, path="/v1/topics") is None
    assert asked(door, method=b"GET") is None
    assert door.decide(b"GET", "/healthz", b"", []) is None
    assert isinstance(door.decide(b"GET", "/v1/topics", b"", []).what, Problem)


def test_an_order_says_all_that_the_head_asks_for(door):
    found = asked(
        door,
        (b"content-length", b"7"),
        (b"idempotency-key", b'"k"'),
        (b"prefer", b"wait=3"),
        query=b"split=lines",
    )
    assert found.what == Order("a", Form.LINES, "k", 3.0, 8 * 2**20)
    assert found.length == 7


@pytest.mark.parametrize(
    ("headers", "length"),
    [
        ([], 0),
        ([(b"content-length", b"5")], 5),
        ([(b"transfer-encoding", b"chunked")], None),
        ([(b"content-length", b"9" * 4000)], 10**18),
    ],
)
def test_the_length_of_a_body_is_what_its_head_says(door, headers, length):
    assert asked(door, *headers).length == length


def learn(door, head, *headers, body=b"hello"):
    door.learn(head + body, asked(door, (b"content-length", b"%d" % len(body)), *headers))


def test_a_head_that_was_learnt_is_known_with_any_body_of_its_length(door):
    learn(door, b"POST x\r\n\r\n")
    order, body = door.recall(b"POST x\r\n\r\nworld")
    assert (order.topic, order.form, body) == ("a", Form.WHOLE, b"world")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"POST x\r\n\r\n",
        b"POST x\r\n\r\nworl",
        b"POST x\r\n\r\nworld!",
        b"POST y\r\n\r\nworld",
        b"POST x\r\nA: b\r\n\r\nworld",
        b"\r\nPOST x\r\n\r\nworld",
        b"world",
    ],
)
def test_anything_else_is_not_known(door, data):
    learn(door, b"POST x\r\n\r\n")
    assert door.recall(data) is None


@pytest.mark.parametrize(
    ("head", "headers"),
    [
        (b"POST x\r\n\r\n", [(b"idempotency-key", b"k")]),  # it comes once
        (b"POST x\r\n\r\n", [(b"transfer-encoding", b"chunked")]),
        (b"POST x\r\n\r\n", [(b"content-encoding", b"gzip")]),  # a refusal
        (b"POST x\n\n", []),  # another end than the one that is looked for
        (b"POST x\r\n\r\nab", []),  # the parser found its end elsewhere
        (b"POST " + b"x" * 4000 + b"\r\n\r\n", []),
    ],
)
def test_some_heads_are_not_learnt(door, head, headers):
    learn(door, head, *headers)
    assert door.recall(head + b"hello") is None
    assert door._known == {}


def test_no_more_heads_are_kept_than_is_good(door):
    for number in range(_KNOWN_HEADS + 10):
        learn(door, b"POST %d\r\n\r\n" % number)
    assert len(door._known) == _KNOWN_HEADS
    assert door.recall(b"POST 0\r\n\r\nhello") is None
    assert door.recall(b"POST %d\r\n\r\nhello" % (_KNOWN_HEADS + 9))
