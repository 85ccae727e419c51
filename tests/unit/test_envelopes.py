"""AMQP messages as the consumer reads them; the rest is tested with a real broker."""

import json

import pika
import pytest

from appliance.broker import base
from appliance.broker.envelopes import EnvelopeReader, first_exchange, given_up
from appliance.model import contents, ids
from appliance.model.contents import DeadEnvelope, DeadLetter, DelayedEnvelope, LedgerReport
from appliance.model.ledger import LedgerEntry
from appliance.model.meta import is_sound
from appliance.model.wire import Envelope, Kind

US = "appliance"


def is_ours(properties):
    return properties.user_id == US


READER = EnvelopeReader(100, is_ours)
OURS = {"received_at": "2026-11-21T01:25:21.132Z", "count": 1, "bytes": 4, "ledger": "an entry"}


def read(topic="orders", body=b"body", exchange="", **properties):
    return READER.read(topic, pika.BasicProperties(**properties), body, exchange=exchange)


def test_an_envelope_of_ours_keeps_its_id_its_time_and_its_ledger_entry():
    kind = Kind.MESSAGE.value
    message_id = ids.IdSource().new()
    content = read(type=kind, message_id=message_id, headers=OURS, user_id=US)
    assert content == Envelope(
        "orders", Kind.MESSAGE, message_id, OURS["received_at"], 1, 4, b"body", "an entry"
    )


@pytest.mark.parametrize(
    "headers",
    [
        {"count": 2},
        {"count": 0},
        {"bytes": 5},
        {"bytes": "4"},
        {"received_at": "yesterday"},
        {"due_at": "tomorrow"},
        {"due_at": 7},
        {"expires_at": "tomorrow"},
        {"expires_at": 7},
    ],
)
def test_an_envelope_with_properties_that_are_not_ours_is_a_dead_letter(headers):
    message_id = ids.IdSource().new()
    content = read(
        type=Kind.MESSAGE.value, message_id=message_id, headers=OURS | headers, user_id=US
    )
    assert isinstance(content, DeadLetter)
    assert (content.reason, content.body, content.ledger) == ("undecodable", b"body", "an entry")


def test_an_envelope_that_says_when_it_is_due_is_a_delayed_one_and_dies_as_any_other():
    message_id, due_at = ids.IdSource().new(), "2099-01-01T00:00:00.000Z"
    properties = {"type": Kind.MESSAGE.value, "message_id": message_id, "user_id": US}
    content = read(headers=OURS | {"due_at": due_at}, **properties)
    assert isinstance(content, DelayedEnvelope)
    assert (content.envelope.due_at, content.ledger) == (due_at, "an entry")
    died = given_up(content, pika.BasicProperties(headers={}))
    assert died == DeadEnvelope(content.envelope, "broker-unknown", died.error)


@pytest.mark.parametrize("user", [None, "billing", b"\xff"])
@pytest.mark.parametrize("kind", [*(each.value for each in Kind), contents.REPORT, contents.MARK])
def test_envelope_report_or_mark_of_another_user_is_a_dead_letter_that_says_so(kind, user):
    message_id = ids.IdSource().new()
    report = LedgerEntry("0123456789abcdef", None, 7, []).encode().encode()
    body = {contents.REPORT: report, contents.MARK: message_id.encode()}.get(kind, b"body")
    content = read(body=body, type=kind, message_id=message_id, headers=OURS, user_id=user)
    assert isinstance(content, DeadLetter)
    assert (content.reason, content.body) == ("foreign-envelope", body)
    assert content.ledger == ""
    assert content.id != message_id  # an id of theirs can't take the place of ours
    assert content.received_at != OURS["received_at"]
    assert {None: "names no user", "billing": "the user billing"}.get(user, "xff") in content.error
    assert "verified" not in json.loads(content.meta)


def test_envelope_that_cannot_be_read_dies_for_the_same_reason_whoever_sent_it():
    headers = OURS | {"count": 0}
    theirs = read(type=Kind.PACK.value, message_id="k", headers=headers)
    ours = read(type=Kind.PACK.value, message_id="k", headers=headers, user_id=US)
    assert (theirs.id, theirs.reason) == (ours.id, ours.reason) == (ours.id, "undecodable")
    assert (theirs.ledger, ours.ledger) == ("", "an entry")


def test_another_clients_letter_has_no_ledger_entry():
    content = read(body=b"", headers={"ledger": '["0123456789abcdef",1,0,[]]'})
    assert (content.reason, content.ledger) == ("empty", "")


def test_another_clients_message_has_the_same_id_for_the_same_key_and_topic():
    first, again = read(message_id="key"), read(message_id="key")
    assert isinstance(first, Envelope)
    assert first.id == again.id != read("other", message_id="key").id
    assert read().id != read().id


@pytest.mark.parametrize(
    ("topic", "body", "reason"),
    [
        ("Not A Topic", b"body", "bad-topic"),
        ("orders", b"x" * 101, "too-large"),
        ("orders", b"", "empty"),
    ],
)
def test_another_clients_message_that_breaks_a_rule_is_a_dead_letter(topic, body, reason):
    content = read(topic, body, message_id="key")
    assert isinstance(content, DeadLetter)
    assert (content.reason, content.body) == (reason, body)
    assert "its message_id: key" in content.error


def test_a_routing_key_that_is_not_utf_8_is_a_dead_letter_that_shows_its_bytes():
    content = READER.read(b"\xff", pika.BasicProperties(), b"body")
    assert (content.reason, content.topic) == ("bad-topic", "\\xff")


def test_a_ledger_report_is_read_and_any_other_text_in_its_place_is_a_dead_letter():
    text = LedgerEntry("0123456789abcdef", None, 7, []).encode().encode()
    assert read(body=text, type=contents.REPORT, user_id=US).body == text
    numbered = LedgerEntry("0123456789abcdef", 8, 7, []).encode().encode()
    for body in (numbered, b"x", b""):
        content = read(body=body, type=contents.REPORT, user_id=US)
        assert isinstance(content, DeadLetter)
        assert content.reason == "undecodable"


def test_a_message_that_breaks_the_reader_is_a_dead_letter_and_not_lost():
    content = READER.read("orders", object(), b"body")
    assert isinstance(content, DeadLetter)
    assert (content.reason, content.body) == ("undecodable", b"body")
    assert "AttributeError" in content.error


@pytest.mark.parametrize(
    ("kind", "properties", "headers"),
    [
        (Kind.MESSAGE, {"content_type": "text/csv"}, {}),
        (Kind.LINES, {}, {"content_type": "text/csv"}),
    ],
)
def test_envelope_of_ours_has_its_content_type_and_its_meta(kind, properties, headers):
    headers = OURS | headers | {"meta": '{"via":"http"}'}
    message_id = ids.IdSource().new()
    content = read(
        type=kind.value, message_id=message_id, headers=headers, user_id=US, **properties
    )
    assert (content.content_type, content.meta) == ("text/csv", '{"via":"http"}')


@pytest.mark.parametrize(
    ("properties", "headers"),
    [
        ({"content_type": "a/\n"}, {}),
        ({"content_type": "é/b"}, {}),
        ({}, {"meta": "no JSON"}),
        ({}, {"meta": "[" * 2000}),
        ({}, {"meta": 7}),
        ({}, {"meta": "{" + '"a":"' + "x" * 9000 + '"}'}),
    ],
)
def test_envelope_with_a_content_type_or_meta_that_is_none_is_a_dead_letter(properties, headers):
    content = read(
        type=Kind.MESSAGE.value, message_id=ids.IdSource().new(), headers=OURS | headers,
        user_id=US, **properties,
    )  # fmt: skip
    assert isinstance(content, DeadLetter)
    assert (content.reason, content.body) == ("undecodable", b"body")


def test_another_clients_message_keeps_its_content_type_its_properties_and_its_headers():
    content = read(
        content_type="application/json", type="order", app_id="shop", correlation_id="7",
        headers={"X-Kind": "new", "count": 3, "is_new": True, "raw": b"\xff", "table": {"a": 1},
                 "x-death": [{"reason": "expired"}]},
    )  # fmt: skip
    assert content.content_type == "application/json"
    assert json.loads(content.meta) == {
        "via": "amqp", "type": "order", "app_id": "shop", "correlation_id": "7",
        "headers": {"x-kind": "new", "count": "3", "is_new": "true", "raw": "\\xff"},
    }  # fmt: skip


def test_message_that_came_by_mqtt_says_so():
    content = read(headers={"x-mqtt-publish-qos": 1, "x-mqtt-dup": False})
    assert json.loads(content.meta)["via"] == "mqtt"


def test_message_of_the_mqtt_exchange_says_so_whatever_its_headers_are():
    assert json.loads(read(exchange=base.MQTT).meta)["via"] == "mqtt"
    assert json.loads(read("Bad Name", exchange=base.MQTT).meta)["via"] == "mqtt"
    assert json.loads(read(exchange=base.EXCHANGE).meta)["via"] == "amqp"


def test_empty_message_is_nothing_by_mqtt_and_a_dead_letter_by_amqp():
    for topic in ("orders", "Home/No Topic"):
        nothing = read(topic, b"", exchange=base.MQTT)
        assert nothing == LedgerReport("")
        assert given_up(nothing, pika.BasicProperties()) == nothing
    assert read(body=b"", exchange=base.EXCHANGE).reason == "empty"


def test_idempotency_key_of_mqtt_5_gives_the_id_that_the_same_key_has_by_amqp():
    keyed = {"headers": {"idempotency-key": "k"}}
    first, again = (read(exchange=base.MQTT, **keyed) for _ in range(2))
    assert first.id == again.id == read(message_id="k").id
    assert read("other", exchange=base.MQTT, **keyed).id != first.id
    assert read(exchange=base.EXCHANGE, **keyed).id != first.id
    assert read(exchange=base.MQTT, message_id="k").id != first.id


@pytest.mark.parametrize("key", ["", "k" * 256, "\0", 7, None, ["k"], {"k": 1}, True])
def test_idempotency_key_that_is_none_gives_a_new_id_each_time(key):
    ids_given = {read(exchange=base.MQTT, headers={"idempotency-key": key}).id for _ in range(2)}
    assert len(ids_given) == 2


def test_dead_message_is_known_by_the_exchange_that_it_was_first_published_to():
    dead = pika.BasicProperties(headers={"x-first-death-exchange": base.MQTT})
    assert first_exchange(dead) == base.MQTT
    for headers in (None, {}, {"x-first-death-exchange": 7}):
        assert first_exchange(pika.BasicProperties(headers=headers)) == ""


def test_another_clients_properties_are_kept_as_far_as_they_have_room():
    content = read(
        type="\x01" * 200, app_id="\x01" * 200, user_id="\x01" * 200, correlation_id="\x01" * 200,
        reply_to="\x01" * 200, message_id="\x01" * 200,
        headers={f"h{n}" * 30: "\x01" * 900 for n in range(100)},
    )  # fmt: skip
    assert isinstance(content, Envelope)
    assert is_sound(content.meta)
    assert len(json.loads(content.meta)["app_id"]) == 200


@pytest.mark.parametrize(
    ("name", "topic"),
    [("Home/Kitchen/temp", "home.kitchen.temp"), ("sensor@42", "sensor_42"), ("orders", "orders")],
)
def test_a_routing_key_of_another_system_is_mapped_where_that_is_set(name, topic):
    reader = EnvelopeReader(100, is_ours, map_topics=True)
    content = reader.read(name, pika.BasicProperties(message_id="k"), b"body")
    assert isinstance(content, Envelope)
    assert content.topic == topic
    assert json.loads(content.meta).get("topic") == (name if name != topic else None)
    assert reader.read(topic, pika.BasicProperties(message_id="k"), b"body").id == content.id
    assert reader.read("///", pika.BasicProperties(), b"body").reason == "bad-topic"


def test_a_routing_key_of_255_bytes_beside_full_headers_is_mapped_with_its_name():
    headers = {f"h{n}": "x" * 200 for n in range(100)}
    name = "Home/" + "é" * 90
    content = EnvelopeReader(100, is_ours, map_topics=True).read(
        name, pika.BasicProperties(headers=headers), b"body"
    )
    assert content.topic == "home." + "e" * 90
    assert json.loads(content.meta)["topic"] == name
    assert is_sound(content.meta)
