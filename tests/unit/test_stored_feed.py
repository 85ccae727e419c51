"""A stored message as subscribers of our own node get it."""

import orjson

from appliance.broker.stored_feed import properties
from appliance.store.rows import StoredMessage


def message(meta):
    return StoredMessage(7, "an-id", "orders", "2026-11-28T12:00:00.000Z", 1, b"x", "a/b", meta)


def headers(meta):
    return properties(message(meta)).headers


def test_message_has_its_id_type_topic_and_place():
    got = properties(message(None))
    assert (got.message_id, got.content_type, got.type) == ("an-id", "a/b", None)
    assert got.headers == {
        "topic": "orders",
        "seq": 7,
        "received_at": "2026-11-28T12:00:00.000Z",
    }


def test_headers_that_came_with_it_are_beside_them_and_in_no_ones_place():
    kept = {"shop": "north", "topic": "forged", "long": "x" * 1001}
    assert headers(orjson.dumps({"headers": kept}).decode()) == headers(None) | {"shop": "north"}


def test_meta_that_was_changed_by_sql_does_not_end_the_feed():
    for meta in ("[]", "{}", '{"headers": 1}', '{"headers": {"a": 1}}', "no JSON"):
        assert headers(meta) == headers(None)
