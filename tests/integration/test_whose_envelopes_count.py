"""Another user of the broker publishes under the types of our own programs, and is not believed."""

import asyncio
import json

import pika
import pytest
from harness import wait_until
from load import amqp, wait_drained
from rabbitmq import rabbitmqctl

from appliance.broker import base
from appliance.broker.consumer import AmqpConsumer
from appliance.broker.node import synced
from appliance.broker.publish.publisher import AmqpPublisher
from appliance.config import load
from appliance.model.contents import MARK, REPORT, DeadLetter
from appliance.model.wire import Envelope, Kind, Message

PASSWORD = "a-password-of-another-user"
HEADERS = {
    "received_at": "2026-01-02T03:04:05.678Z", "count": 1, "bytes": 4,
    "ledger": '["0123456789abcdef",7,6,[]]', "meta": '{"verified":true}',
}  # fmt: skip
ID = "01890a5d-ac96-774b-bcce-b302099a80{:02x}"


@pytest.fixture(scope="module")
def running(module_stack):
    """An appliance on a node with another user, who may do what it wants but for our queues."""
    made = module_stack(workers=1, log_level="info")
    rabbitmqctl(
        made, "eval",
        'rabbit_auth_backend_internal:add_user(<<"billing">>, <<"' + PASSWORD + '">>, <<"test">>), '
        'rabbit_auth_backend_internal:set_permissions(<<"billing">>, <<"/">>, <<"^billing">>, '
        '<<"^(billing|appliance$)">>, <<"^(billing|appliance$)">>, <<"test">>).',
    )  # fmt: skip
    assert made.publish("first", b"x", Prefer="wait=60").status_code == 201
    return made


def as_billing(stack):
    login = pika.PlainCredentials("billing", PASSWORD)
    host, port = stack.config.amqp
    return pika.BlockingConnection(pika.ConnectionParameters(host, port, credentials=login))


def publish(stack, topic, body, connect=as_billing, **properties):
    with connect(stack) as link:
        channel = link.channel()
        channel.confirm_delivery()
        channel.basic_publish(
            base.EXCHANGE, topic, body, pika.BasicProperties(**properties), mandatory=True
        )


def letters(stack, topic, count):
    query = "SELECT * FROM dead_letters WHERE topic = ? ORDER BY seq"
    wait_until(lambda: len(stack.query(query, topic)) >= count, "letters", 30, stack.logs)
    found = stack.query(query, topic)
    assert len(found) == count
    return found


def test_first_envelope_of_a_fresh_appliance_closes_the_door_for_unsigned_ones(running):
    assert (running.data / "broker" / synced.SIGNED).exists()


@pytest.mark.parametrize("user", [None, "billing"])
def test_envelopes_and_reports_of_another_user_are_dead_letters_and_no_ledger_entry(running, user):
    kinds = [*(kind.value for kind in Kind), REPORT, MARK]
    topic = f"forged-{user or 'unsigned'}"
    before = running.query("SELECT * FROM sources")
    for number, kind in enumerate(kinds):
        report, mark = b'["0123456789abcdef",null,9,[]]', ID.format(0).encode()
        body = {REPORT: report, MARK: mark}.get(kind, b"body")
        publish(
            running, topic, body, type=kind, user_id=user, headers=HEADERS,
            message_id=ID.format(number),
        )  # fmt: skip
    found = letters(running, topic, len(kinds))
    assert {letter["reason"] for letter in found} == {"foreign-envelope"}
    assert not {letter["id"] for letter in found} & {ID.format(n) for n in range(len(kinds))}
    assert all("verified" not in json.loads(letter["meta"]) for letter in found)
    assert running.count(topic) == 0
    after = running.query("SELECT * FROM sources")
    assert [row["source"] for row in after] == [row["source"] for row in before]
    assert running.cli("verify").returncode == 0


def test_plain_message_of_another_user_is_a_row_that_says_who_sent_it(running):
    publish(running, "plain", b"x", user_id="billing", type="invoice")
    (row,) = running.wait_rows(1, "plain")
    meta = json.loads(row["meta"])
    assert (meta["via"], meta["user_id"], meta["type"]) == ("amqp", "billing", "invoice")


def test_rabbitmq_refuses_another_user_who_names_ours(running):
    with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="user_id"):
        publish(running, "named", b"x", user_id=base.USER, type="appliance.message")
    assert running.count("named") == 0


def test_envelope_of_ours_that_another_queue_sends_back_under_another_topic_is_a_letter(running):
    """RabbitMQ keeps our name in it; a row under a topic of that user's choice would be forged."""
    with as_billing(running) as link:
        channel = link.channel()
        channel.queue_declare(
            "billing.loop",
            arguments={
                "x-dead-letter-exchange": base.EXCHANGE,
                "x-dead-letter-routing-key": "elsewhere",
            },
        )
        channel.queue_bind("billing.loop", base.EXCHANGE, "theirs")
        assert running.publish("theirs", b"x", Prefer="wait=60").status_code == 201
        delivery = wait_until(
            lambda: next(iter(channel.consume("billing.loop", inactivity_timeout=5))), "it comes"
        )
        assert delivery[1].user_id == base.USER
        channel.basic_reject(delivery[0].delivery_tag, requeue=False)
        (letter,) = letters(running, "elsewhere", 1)
    assert letter["reason"] == "foreign-envelope"
    assert "another queue sent it here" in letter["error"]
    assert running.count("elsewhere") == 0


def test_forged_report_that_expires_is_not_believed_among_the_dead_either(running):
    running.workers[0].stop()
    publish(
        running, "expired", b'["fedcba9876543210",null,9,[]]', type=REPORT, expiration="1",
        headers=HEADERS,
    )  # fmt: skip
    running.workers[0].start()
    running.wait_ready()
    (letter,) = letters(running, "expired", 1)
    assert letter["reason"] == "foreign-envelope"
    wait_drained(running)
    query = "SELECT 1 FROM sources WHERE source IN ('fedcba9876543210', '0123456789abcdef')"
    assert running.query(query) == []


@pytest.fixture
def outside(stack):
    """A broker without an appliance: a consumer of the test's takes its envelopes."""
    made = stack(start=False, own=False)
    if not made.broker.process.running:
        made.broker.start()
    made.broker.wait()
    return made


@pytest.mark.parametrize("users", ["", "appliance"], ids=["all count", "ours count"])
def test_outside_brokers_envelopes_count_by_the_users_that_are_named(outside, tmp_path, users):
    settings = load(
        {
            "APPLIANCE_DATA": str(tmp_path),
            "APPLIANCE_BROKER_URL": outside.broker_url,
            "APPLIANCE_BROKER_USERS": users,
        }
    )
    topic, found = f"outside-{users or 'all'}", []

    async def body():
        publisher, consumer = AmqpPublisher(settings), AmqpConsumer(settings)

        both = asyncio.Event()

        def take(delivery):
            found.append(delivery.content)
            consumer.acknowledge(delivery)
            if len(contents_of(found, topic)) == 2:
                both.set()

        tasks = [asyncio.create_task(publisher.run()), asyncio.create_task(consumer.run(take))]
        message = Message(ID.format(1), HEADERS["received_at"], b"ours")
        await publisher.post(topic, message)
        await asyncio.to_thread(
            publish, outside, topic, b"body", connect=amqp, type="appliance.message",
            headers=HEADERS, message_id=ID.format(2),
        )  # fmt: skip
        await asyncio.wait_for(both.wait(), 30)
        await consumer.stop()
        await publisher.stop()
        await asyncio.gather(*tasks)

    asyncio.run(body())
    ours, forged = contents_of(found, topic)
    assert type(ours) is Envelope
    assert ours.ledger
    assert type(forged) is (DeadLetter if users else Envelope)
    assert forged.ledger == ("" if users else HEADERS["ledger"])


def contents_of(contents, topic):
    return [each for each in contents if getattr(each, "topic", None) == topic]
