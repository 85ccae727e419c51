"""The AMQP door: users of our own node who may publish, or subscribe, and nothing else."""

import contextlib
import json

import pika
import pytest
from harness import wait_until

from appliance.broker import base

SUB = base.SUBSCRIBERS + "reports."


@pytest.fixture(scope="module")
def running(module_stack):
    made = module_stack(workers=1, log_level="info")
    made.passwords = {
        "till": create(made, "till"),
        "reports": create(made, "reports", "--subscribe"),
    }
    return made


def create(stack, name, *options):
    done = stack.cli("door", "amqp", "user", "create", name, *options)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().strip()


@contextlib.contextmanager
def channel_of(stack, name):
    host, port = stack.config.amqp
    login = pika.PlainCredentials(name, stack.passwords[name])
    with pika.BlockingConnection(pika.ConnectionParameters(host, port, credentials=login)) as link:
        channel = link.channel()
        channel.confirm_delivery()
        yield channel


def refused(stack, name, act):
    """Have a user do something; return whether the broker refused it for lack of a right."""
    try:
        with channel_of(stack, name) as channel:
            act(channel)
    except pika.exceptions.ChannelClosedByBroker as error:
        return error.reply_code == 403
    return False


def test_publisher_publishes_a_body_with_its_headers_which_is_one_row(running):
    with channel_of(running, "till") as channel:
        channel.basic_publish(
            base.EXCHANGE, "sales", b"7.50",
            pika.BasicProperties(
                content_type="text/plain", message_id="sale-1", headers={"Shop": "north"}
            ),
            mandatory=True,
        )  # fmt: skip
    (row,) = running.wait_rows(1, "sales")
    meta = json.loads(row["meta"])
    assert (row["body"], row["content_type"]) == ("7.50", "text/plain")
    assert meta == {"via": "amqp", "message_id": "sale-1", "headers": {"shop": "north"}}


PUBLISHER_MAY_NOT = {
    "publish to our queue": lambda c: c.basic_publish("", base.QUEUE, b"x", mandatory=True),
    "publish to the dead": lambda c: c.basic_publish(base.DEAD, "x", b"x", mandatory=True),
    "declare a queue": lambda c: c.queue_declare("mine"),
    "declare one of a subscriber": lambda c: c.queue_declare(SUB + "x"),
    "consume our queue": lambda c: c.basic_get(base.QUEUE),
    "delete our queue": lambda c: c.queue_delete(base.QUEUE),
    "purge our queue": lambda c: c.queue_purge(base.QUEUE),
    "delete the exchange": lambda c: c.exchange_delete(base.EXCHANGE),
    "unbind our queue": lambda c: c.queue_unbind(base.QUEUE, base.EXCHANGE, "#"),
}
SUBSCRIBER_MAY_NOT = PUBLISHER_MAY_NOT | {
    "declare one of a subscriber": lambda c: c.queue_declare(base.SUBSCRIBERS + "other.x"),
    "publish": lambda c: c.basic_publish(base.EXCHANGE, "x", b"x", mandatory=True),
    "send our envelopes back": lambda c: c.queue_declare(
        SUB + "loop", arguments={"x-dead-letter-exchange": base.EXCHANGE}
    ),
    "send them to our queue": lambda c: c.queue_declare(
        SUB + "loop",
        arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": base.QUEUE},
    ),
}


@pytest.mark.parametrize("what", PUBLISHER_MAY_NOT)
def test_publisher_may_not(running, what):
    assert refused(running, "till", PUBLISHER_MAY_NOT[what])


@pytest.mark.parametrize("what", SUBSCRIBER_MAY_NOT)
def test_subscriber_may_not(running, what):
    assert refused(running, "reports", SUBSCRIBER_MAY_NOT[what])


def test_subscriber_gets_what_is_published_in_queues_of_its_own_that_are_bounded(running):
    with channel_of(running, "reports") as channel:
        for kind in ("classic", "quorum"):
            queue = SUB + kind
            channel.queue_declare(queue, durable=True, arguments={"x-queue-type": kind})
            channel.queue_bind(queue, base.EXCHANGE, "wanted.#")
        assert running.publish("wanted.one", b"x", Prefer="wait=60").status_code == 201
        for kind in ("classic", "quorum"):
            _, properties, body = wait_until(
                lambda k=kind: next(iter(channel.consume(SUB + k, inactivity_timeout=5))), "it"
            )
            channel.cancel()
            assert (properties.type, body) == ("appliance.message", b"x")
        large = b"x" * 2**20
        for _ in range(40):
            assert running.publish("wanted.large", large).status_code == 202
        for kind in ("classic", "quorum"):
            count = channel.queue_declare(SUB + kind, passive=True).method.message_count
            assert 20 < count < 34, kind


def test_user_is_there_after_a_restart_and_gone_for_good_once_it_is_removed(running):
    listed = json.loads(running.cli("door", "amqp", "user", "list", "--json").stdout)["users"]
    assert [(each["name"], each["may"]) for each in listed] == [
        ("till", "publish"), ("reports", "subscribe"),
    ]  # fmt: skip
    again = running.cli("door", "amqp", "user", "create", "till")
    assert (again.returncode, again.stdout) == (1, b"")
    with channel_of(running, "reports") as open_channel:
        done = running.cli("door", "amqp", "user", "remove", "reports")
        assert done.returncode == 0, done.stderr
        with pytest.raises(pika.exceptions.AMQPError):
            wait_until(lambda: open_channel.queue_declare(SUB + "x") is None, "cut off", 30)
    running.broker.process.stop()
    running.broker.start()
    running.broker.wait()
    with channel_of(running, "till") as channel:
        channel.basic_publish(base.EXCHANGE, "again", b"x", mandatory=True)
    running.wait_rows(1, "again")
    with pytest.raises(pika.exceptions.ProbableAuthenticationError), channel_of(running, "reports"):
        pass
    assert running.cli("door", "amqp", "user", "remove", "reports").returncode == 1


def test_password_is_nowhere_in_the_data_folder_or_the_logs(running):
    secret = running.passwords["till"]
    for path in running.data.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path
    assert secret not in running.logs(10_000)


def test_users_connections_are_bounded(running):
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(channel_of(running, "till"))
        with pytest.raises(pika.exceptions.AMQPError):
            stack.enter_context(channel_of(running, "till"))
        assert running.publish("beside", b"x", Prefer="wait=60").status_code == 201
