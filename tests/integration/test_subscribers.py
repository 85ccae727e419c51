"""Queues of other services, bound by topic: each gets the envelopes that name its topics."""

import contextlib
import threading

import orjson
import pytest
from harness import wait_until
from load import amqp

from appliance.broker import base

TOPICS = ("alpha.one", "alpha.two", "beta")


@pytest.fixture(scope="module")
def running(module_stack):
    return module_stack(workers=1)


@contextlib.contextmanager
def bound(stack, *keys):
    """A queue of our own, bound by these keys; yields what takes the deliveries that are there."""
    with amqp(stack) as link:
        channel = link.channel()
        queue = channel.queue_declare("", exclusive=True).method.queue
        for key in keys:
            channel.queue_bind(queue, base.EXCHANGE, key)

        def taken():
            found = []
            while (delivery := channel.basic_get(queue, auto_ack=True))[0] is not None:
                found.append(delivery)
            return found

        yield taken


def send_at_once(stack, count):
    """Publish from `count` threads at once, so that messages of several topics share envelopes."""
    gate = threading.Barrier(count)

    def send(number):
        gate.wait()
        for turn in range(20):
            answer = stack.publish(TOPICS[(number + turn) % 3], f"{number}-{turn}")
            assert answer.status_code == 202, answer.text

    threads = [threading.Thread(target=send, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return count * 20


def messages(deliveries):
    """(topic, body) of each message, read as docs/architecture.md says."""
    found = []
    for method, properties, body in deliveries:
        if properties.type == "appliance.message":
            found.append((method.routing_key, body.decode()))
        elif properties.type == "appliance.pack":
            found += [(method.routing_key, row[2]) for row in orjson.loads(body)]
        else:
            assert properties.type == "appliance.mixed"
            rows = [(row[0], row[3]) for row in orjson.loads(body)]
            named = {method.routing_key, *properties.headers["CC"]}
            assert named == {topic for topic, _ in rows}
            found += rows
    return found


def test_queue_bound_by_topic_gets_each_message_of_it_once_in_order(running):
    with bound(running, "beta") as of_one, bound(running, "alpha.*", "beta") as of_all:
        sent = send_at_once(running, 12)
        rows = running.wait_rows(sent)
        deliveries = of_all()
        assert any(properties.type == "appliance.mixed" for _, properties, _ in deliveries)
        of_topic = [(row["topic"], row["body"]) for row in rows]
        assert messages(deliveries) == of_topic
        only = [each for each in messages(of_one()) if each[0] == "beta"]
        assert only == [each for each in of_topic if each[0] == "beta"]


def test_envelope_of_several_topics_that_the_broker_gives_up_dies_under_each_topic(running):
    assert running.workers[0].stop() == 0
    before = len(running.rows())
    sent = send_at_once(running, 6)
    wait_until(lambda: waiting(running) > 0, "envelopes wait")
    with amqp(running) as link:
        channel = link.channel()
        for method, _, _ in channel.consume(base.QUEUE, inactivity_timeout=2):
            if method is None:
                break
            channel.basic_reject(method.delivery_tag, requeue=False)
    running.workers[0].start()
    letters = "SELECT topic, count(*) AS n FROM dead_letters GROUP BY topic"
    wait_until(
        lambda: sum(row["n"] for row in running.query(letters)) == sent, "each is a dead letter",
        60, running.logs,
    )  # fmt: skip
    assert {row["topic"]: row["n"] for row in running.query(letters)} == dict.fromkeys(
        TOPICS, sent // 3
    )
    assert len(running.rows()) == before


def waiting(stack):
    with amqp(stack) as link:
        return link.channel().queue_declare(base.QUEUE, passive=True).method.message_count
