"""The authorizer finds principals; a principal has rights, for topics."""

import pytest

from appliance.auth.authorizer import Authorizer
from appliance.auth.principal import ADMINISTRATOR, ANONYMOUS, Principal, Right


@pytest.mark.parametrize("value", [b"Bearer t", b"bearer t", b"BEARER  t "])
def test_the_token_stands_for_the_administrator(value):
    assert Authorizer("t").principal(value) is ADMINISTRATOR


@pytest.mark.parametrize(
    "value",
    [None, b"", b"Bearer", b"Bearer ", b"Bearer T", b"Bearer tt", b"t", b"Basic t", b"\xff"],
)
def test_anything_else_stands_for_nobody(value):
    assert Authorizer("t").principal(value) is None


def test_the_administrator_may_do_everything_and_a_stranger_nothing():
    for right in Right:
        assert ADMINISTRATOR.may(right)
        assert ADMINISTRATOR.may(right, "any.topic")
        assert not ANONYMOUS.may(right)


def test_a_right_holds_for_the_topics_of_a_pattern():
    principal = Principal("till", frozenset({Right.PUBLISH}), ("orders.*", "hello"))
    assert principal.may(Right.PUBLISH)
    assert principal.may(Right.PUBLISH, "orders.new")
    assert principal.may(Right.PUBLISH, "hello")
    assert not principal.may(Right.PUBLISH, "orders")
    assert not principal.may(Right.PUBLISH, "hello.x")
    assert not principal.may(Right.READ, "hello")
