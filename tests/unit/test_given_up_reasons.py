"""The reasons of dead letters that the broker gave up on."""

from types import SimpleNamespace

import pytest
from store_contents import letter, one

from appliance.broker.consumer import given_up


def properties(**headers):
    return SimpleNamespace(headers=headers)


@pytest.mark.parametrize(
    ("deaths", "reason"),
    [
        ([{"reason": "expired"}], "broker-expired"),
        ([{"reason": "delivery_limit"}, {"reason": "expired"}], "broker-delivery-limit"),
        ([{"reason": "rejected", "count": 1}], "broker-rejected"),
        ([{"reason": "made up \x1b"}], "broker-unknown"),
        ([{"reason": 7}], "broker-unknown"),
        ([], "broker-unknown"),
        (["expired"], "broker-unknown"),
        ("expired", "broker-unknown"),
        (None, "broker-unknown"),
    ],
)
def test_the_brokers_word_becomes_a_reason_and_nothing_else_does(deaths, reason):
    found = given_up(one(), properties(**{"x-death": deaths}))
    assert found.reason == reason
    assert given_up(letter(), SimpleNamespace(headers=None)).reason == "conflict"
