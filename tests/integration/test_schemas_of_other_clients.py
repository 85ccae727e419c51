"""Messages of other AMQP clients are held to their topic's schema, though nobody can answer."""

import pika
import pytest
from harness import wait_until
from load import amqp
from test_schemas_over_http import letters, put, stored, topic

from appliance.broker import base

__all__ = ["topic"]

pytestmark = pytest.mark.slow

WRONG = '/id: the value is not of type "integer"'


@pytest.fixture(scope="module")
def running(module_stack):
    return module_stack(workers=1)


def publish(running, topic, *bodies, **properties):
    with amqp(running) as link:
        channel = link.channel()
        channel.confirm_delivery()
        for body in bodies:
            channel.basic_publish(
                base.EXCHANGE,
                topic,
                body,
                pika.BasicProperties(delivery_mode=2, **properties),
                mandatory=True,
            )


def wait_letters(running, topic, count):
    wait_until(lambda: len(letters(running, topic)) >= count, "letters", more=running.logs)
    return letters(running, topic)


def test_rejecting_makes_a_dead_letter_of_what_does_not_fit_and_stores_the_rest(running, topic):
    put(running, topic)
    publish(running, topic, b'{"id":1}', b'{"id":"x"}', b"no", b"\xff", b'{"id":2}')
    found = wait_letters(running, topic, 3)
    assert [letter["reason"] for letter in found] == ["schema"] * 3
    assert found[0]["error"] == WRONG
    assert found[1]["error"].startswith("not JSON (")
    assert found[0]["meta"]["via"] == "amqp"
    assert "quarantine" not in found[0]["meta"]
    assert [message["body"] for message in stored(running, topic)] == ['{"id":1}', '{"id":2}']


def test_quarantining_counts_it_to_the_topics_budget(running, topic):
    put(running, topic, mode="quarantine")
    publish(running, topic, b"{}", headers={"x-event": "e"}, content_type="application/json")
    (letter,) = wait_letters(running, topic, 1)
    assert letter["meta"]["quarantine"] == f"topic {topic}"
    assert letter["meta"]["headers"] == {"x-event": "e"}
    assert letter["content_type"] == "application/json"
    assert stored(running, topic) == []


def test_observing_stores_it_with_a_mark(running, topic):
    put(running, topic, mode="observe")
    publish(running, topic, b'{"id":"x"}', b'{"id":1}', app_id="till")
    wait_until(lambda: len(stored(running, topic)) == 2, "both are stored", more=running.logs)
    marked, fits = (message["meta"] for message in stored(running, topic))
    assert marked == {"via": "amqp", "app_id": "till", "schema": f"invalid: {WRONG}"}
    assert fits == {"via": "amqp", "app_id": "till"}
    assert letters(running, topic) == []


def test_a_schema_counts_from_the_moment_it_is_set_or_removed(running, topic):
    for number in range(3):
        publish(running, topic, b"x")
        wait_until(lambda n=number: len(stored(running, topic)) == n + 1, "stored")
        put(running, topic)
        publish(running, topic, b"x")
        wait_letters(running, topic, number + 1)
        running.client.delete(f"/v1/topics/{topic}/schema")


def test_redriving_checks_it_again_and_keeps_the_id_of_its_sender(running, topic):
    put(running, topic)
    publish(running, topic, b"[]", message_id="till-7")
    (letter,) = wait_letters(running, topic, 1)
    path = f"/v1/dead-letters/{letter['seq']}/redrive"
    refused = running.client.post(path)
    assert refused.status_code == 422
    assert "still does not fit" in refused.json()["detail"]
    put(running, topic, {"type": "array"})
    assert running.client.post(path).status_code == 202
    wait_until(lambda: len(stored(running, topic)) == 1, "stored", more=running.logs)
    assert stored(running, topic)[0]["id"] == letter["id"]
    assert letters(running, topic) == []
    publish(running, topic, b"[]", message_id="till-7")  # it came twice
    publish(running, topic, b"[1]")
    wait_until(lambda: len(stored(running, topic)) == 2, "the last one is stored")
