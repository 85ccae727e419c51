"""The AMQP door: users of our own node who may publish, or subscribe, and nothing else."""

import contextlib
import json
import subprocess
import sys

import pika
import pytest
from harness import Process, wait_until

from appliance.broker import base

SUB = base.SUBSCRIBERS + "reports."


@pytest.fixture(scope="module")
def running(module_stack):
    made = module_stack(workers=1, log_level="info")
    made.janitor = Process("janitor", made.env, made.folder)
    made.janitor.start()
    made.passwords = {
        "till": create(made, "till"),
        "reports": create(made, "reports", "--subscribe"),
    }
    yield made
    made.janitor.kill()


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
    "bind to what is published": lambda c: (
        c.queue_declare(SUB + "early") and c.queue_bind(SUB + "early", base.EXCHANGE, "#")
    ),
    "publish as if it were stored": lambda c: c.basic_publish(base.STORED, "x", b"x"),
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


#: The consumer of RabbitMQ's first tutorial, but for the address and the names.
CONSUMER = """
import pika, sys

def main():
    connection = pika.BlockingConnection(pika.URLParameters(sys.argv[1]))
    channel = connection.channel()

    channel.queue_declare(queue=sys.argv[2])
    channel.queue_bind(queue=sys.argv[2], exchange='appliance.stored', routing_key='tutorial.#')

    def callback(ch, method, properties, body):
        print(f" [x] Received {body}", flush=True)

    channel.basic_consume(queue=sys.argv[2], on_message_callback=callback, auto_ack=True)

    print(' [*] Waiting for messages. To exit press CTRL+C', flush=True)
    channel.start_consuming()

main()
"""


def url_of(stack, name):
    host, port = stack.config.amqp
    return f"amqp://{name}:{stack.passwords[name]}@{host}:{port}"


def test_textbook_consumer_gets_each_line_of_a_batch_by_itself(running):
    command = [sys.executable, "-c", CONSUMER, url_of(running, "reports"), SUB + "tutorial"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as consumer:
        try:
            assert "Waiting" in consumer.stdout.readline()
            path = "/v1/topics/tutorial.lines/messages?split=lines"
            running.client.post(path, content=b"one\ntwo\nthree").raise_for_status()
            got = [consumer.stdout.readline().strip() for _ in range(3)]
        finally:
            consumer.kill()
    assert got == [f"[x] Received b'{each}'" for each in ("one", "two", "three")]


def test_subscriber_gets_by_headers_what_it_asks_for_with_the_original_body(running):
    with channel_of(running, "reports") as channel:
        channel.queue_declare(SUB + "pushes", durable=True)
        channel.queue_bind(
            SUB + "pushes", base.MATCH, "",
            {"x-match": "all-with-x", "x-github-event": "push", "topic": "matched"},
        )  # fmt: skip
        for event, body in (("push", b"\xff1"), ("star", b"2"), ("push", b"3")):
            headers = {"X-GitHub-Event": event, "Content-Type": "application/octet-stream"}
            running.publish("matched", body, **headers).raise_for_status()
        got = take(channel, SUB + "pushes", 2)
    assert [body for _, body in got] == [b"\xff1", b"3"]
    properties, _ = got[0]
    (row, *_) = running.rows("matched")
    assert (properties.message_id, properties.content_type) == (row["id"], row["content_type"])
    assert properties.headers["seq"] == row["seq"]
    assert properties.type is None


def test_subscriber_misses_nothing_of_what_is_stored_while_its_feed_is_killed(running):
    with channel_of(running, "reports") as channel:
        channel.queue_declare(SUB + "all", durable=True)
        channel.queue_bind(SUB + "all", base.STORED, "counted")
        for number in range(60):
            if number % 20 == 10:
                running.janitor.kill()
                running.janitor.start()
            running.publish("counted", str(number)).raise_for_status()
        seen = []
        wait_until(
            lambda: seen.extend(take(channel, SUB + "all", 1)) or seen[-1][1] == b"59", "all", 60
        )
    bodies = [body for _, body in seen]
    assert list(dict.fromkeys(bodies)) == [str(number).encode() for number in range(60)]


def test_amqp_tools_publish_and_consume(running):
    queue = SUB + "tools"
    with channel_of(running, "reports") as channel:
        channel.queue_declare(queue, durable=True)
        channel.queue_bind(queue, base.STORED, "tools.*")
    publish = ["amqp-publish", f"--url={url_of(running, 'till')}", "-e", base.EXCHANGE]
    subprocess.run([*publish, "-r", "tools.one", "-C", "text/plain", "-b", "hello"], check=True)
    (row,) = running.wait_rows(1, "tools.one")
    assert (row["body"], row["content_type"]) == ("hello", "text/plain")
    consume = ["amqp-consume", f"--url={url_of(running, 'reports')}", "-q", queue, "-c", "1", "cat"]
    done = subprocess.run(consume, check=True, capture_output=True, timeout=60)
    assert done.stdout == b"hello"


def take(channel, queue, count):
    """Return the properties and bodies of the next messages of a queue."""

    def one():
        method, properties, body = channel.basic_get(queue, auto_ack=True)
        return None if method is None else (properties, body)

    return [wait_until(one, "a message", 60) for _ in range(count)]


def test_queue_that_refuses_more_refuses_no_message_to_its_sender(running):
    with channel_of(running, "reports") as channel:
        channel.queue_declare(
            SUB + "sulky", arguments={"x-max-length": 1, "x-overflow": "reject-publish"}
        )
        channel.queue_bind(SUB + "sulky", base.STORED, "#")
        for number in range(5):
            answer = running.publish("sulked", str(number), Prefer="wait=60")
            assert answer.status_code == 201
        channel.queue_delete(SUB + "sulky")


GREEDY = {
    "classic": {"x-max-length-bytes": 10**12, "x-message-ttl": 10**9},
    "v2": {"x-queue-version": 2},
    "quorum": {"x-queue-type": "quorum", "x-max-length": 10**9},
    "stream": {
        "x-queue-type": "stream", "x-max-length-bytes": 10**12, "x-max-age": "10Y",
        "x-stream-max-segment-size-bytes": 10**9,
    },
}  # fmt: skip


def test_queue_of_no_type_holds_more_than_its_bound_whatever_it_asks_for(running):
    with channel_of(running, "reports") as channel:
        for kind, arguments in GREEDY.items():
            channel.queue_declare(SUB + kind, durable=True, arguments=arguments)
            channel.queue_bind(SUB + kind, base.STORED, "greedy")
    with pika.BlockingConnection(pika.URLParameters(running.broker.url)) as link:
        ours = link.channel()
        ours.confirm_delivery()
        for _ in range(90):
            ours.basic_publish(base.STORED, "greedy", b"x" * 2**20)

        def held(queue):
            return ours.queue_declare(queue, passive=True).method.message_count

        for kind in GREEDY:
            wait_until(lambda queue=SUB + kind: held(queue) > 16, f"{kind} is filled", 60)
            assert held(SUB + kind) < 48, kind
            ours.queue_delete(SUB + kind)


def test_queues_of_all_subscribers_together_are_bounded(running):
    made = []

    def declare_many():
        with channel_of(running, "reports") as channel:
            for number in range(100):
                channel.queue_declare(f"{SUB}n{number}")
                made.append(f"{SUB}n{number}")

    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as refusal:
        declare_many()
    assert refusal.value.reply_code == 406
    assert 20 < len(made) < 64
    assert running.publish("beside", b"x", Prefer="wait=60").status_code == 201
    with channel_of(running, "reports") as channel:
        for queue in made:
            channel.queue_delete(queue)


def test_user_is_there_after_a_restart_and_gone_for_good_once_it_is_removed(running):
    running.passwords["leaver"] = create(running, "leaver", "--subscribe")
    listed = json.loads(running.cli("door", "amqp", "user", "list", "--json").stdout)["users"]
    assert [(each["name"], each["may"]) for each in listed] == [
        ("till", "publish"), ("reports", "subscribe"), ("leaver", "subscribe"),
    ]  # fmt: skip
    again = running.cli("door", "amqp", "user", "create", "till")
    assert (again.returncode, again.stdout) == (1, b"")
    with channel_of(running, "leaver") as open_channel:
        done = running.cli("door", "amqp", "user", "remove", "leaver")
        assert done.returncode == 0, done.stderr
        with pytest.raises(pika.exceptions.AMQPError):
            wait_until(
                lambda: open_channel.queue_declare(base.SUBSCRIBERS + "leaver.x") is None,
                "cut off",
                30,
            )
    running.broker.process.stop()
    running.broker.start()
    running.broker.wait()
    with channel_of(running, "till") as channel:
        channel.basic_publish(base.EXCHANGE, "again", b"x", mandatory=True)
    running.wait_rows(1, "again")
    with pytest.raises(pika.exceptions.ProbableAuthenticationError), channel_of(running, "leaver"):
        pass
    assert running.cli("door", "amqp", "user", "remove", "leaver").returncode == 1
    running.wait_ready()


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
