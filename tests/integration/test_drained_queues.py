"""Queues of others that are drained: each message is one row, through kills of our processes."""

import contextlib
import json
import random
import subprocess
import sys
import threading
import time
from collections import Counter

import pika
import pytest
from harness import wait_until
from standstill import frozen

#: The producer of RabbitMQ's first tutorial, but for the address and what it sends.
PRODUCER = """
import pika, sys

connection = pika.BlockingConnection(pika.URLParameters(sys.argv[1]))
channel = connection.channel()

channel.queue_declare(queue='hello')

channel.basic_publish(exchange='', routing_key='hello', body='Hello World!')
print(" [x] Sent 'Hello World!'")
connection.close()
"""

#: Seconds after which a queue that was declared outlives a kill of RabbitMQ 3, which writes it down
#: by and by.
NEW_QUEUE_SECONDS = 2.0

KINDS = {"transient": {}, "durable": {}, "quorum": {"x-queue-type": "quorum"}}


@pytest.fixture(scope="module")
def running(module_stack):
    return module_stack(
        workers=2,
        drain=",".join((*KINDS, "hello", "theirs", "Odd-Name=odd", "bad", "flood", "kept")),
        log_level="info",
    )


@contextlib.contextmanager
def channel_of(stack):
    with pika.BlockingConnection(pika.URLParameters(stack.broker.url)) as link:
        channel = link.channel()
        channel.confirm_delivery()
        yield channel


class Sender(threading.Thread):
    """Sends lines to a queue until it is told to stop: every second one is the same."""

    def __init__(self, stack, kind):
        super().__init__()
        self.stack, self.kind, self.sent = stack, kind, []
        self.stopping = threading.Event()

    def run(self):
        with channel_of(self.stack) as channel:
            channel.queue_declare(
                self.kind, durable=self.kind != "transient", arguments=KINDS[self.kind]
            )
            while not self.stopping.is_set():
                line = "tick" if len(self.sent) % 2 else str(len(self.sent))
                channel.basic_publish("", self.kind, line.encode())
                self.sent.append(line)
                time.sleep(0.002)  # a load, and no backlog that takes longer than the test


@pytest.mark.parametrize("kind", KINDS)
def test_each_line_is_one_row_in_order_though_workers_are_killed_again_and_again(running, kind):
    sender = Sender(running, kind)
    sender.start()
    try:
        for _ in range(8):
            seen = running.count(kind)
            wait_until(lambda n=seen: running.count(kind) > n + 50, "some more", 60, running.logs)
            time.sleep(random.uniform(0, 0.05))
            for worker in running.workers:
                worker.kill()
                worker.start()
        running.api.kill()
        running.api.start()
    finally:
        sender.stopping.set()
        sender.join()
    rows = running.wait_rows(len(sender.sent), kind, 150)
    assert [row["body"] for row in rows] == sender.sent
    running.wait_ready()


def test_textbook_producer_is_waited_for_and_each_of_its_lines_is_a_row(running):
    wait_until(lambda: "it is not there" in logs(running), "that is said", 30)
    made = running.cli("door", "amqp", "user", "create", "old", "--queue", "hello")
    assert made.returncode == 0, made.stderr
    host, port = running.config.amqp
    url = f"amqp://old:{made.stdout.decode().strip()}@{host}:{port}"
    for _ in range(3):
        subprocess.run([sys.executable, "-c", PRODUCER, url], check=True)
    rows = running.wait_rows(3, "hello", 60)
    assert [row["body"] for row in rows] == ["Hello World!"] * 3
    assert json.loads(rows[0]["meta"]) == {"via": "amqp", "queue": "hello"}


USERS_OF_QUEUES_MAY_NOT = {
    "declare another queue": lambda c: c.queue_declare("other"),
    "read it": lambda c: c.basic_get("theirs"),
    "read ours": lambda c: c.basic_get("appliance.store"),
    "delete ours": lambda c: c.queue_delete("appliance.store"),
    "publish to the exchange": lambda c: c.basic_publish("appliance", "x", b"x"),
    "bind it": lambda c: c.queue_bind("theirs", "appliance", "#"),
    "dead-letter to the exchange": lambda c: c.queue_declare(
        "theirs", arguments={"x-dead-letter-exchange": "appliance"}
    ),
}


def test_user_of_a_queue_may_do_nothing_else_and_reaches_our_queue_as_a_dead_letter(running):
    made = running.cli("door", "amqp", "user", "create", "sly", "--queue", "theirs")
    host, port = running.config.amqp
    login = pika.PlainCredentials("sly", made.stdout.decode().strip())
    with pika.BlockingConnection(pika.ConnectionParameters(host, port, credentials=login)) as link:
        for what, act in USERS_OF_QUEUES_MAY_NOT.items():
            channel = link.channel()
            channel.confirm_delivery()
            with pytest.raises(pika.exceptions.ChannelClosedByBroker) as refusal:
                act(channel)
            assert refusal.value.reply_code in {403, 406}, what
        channel = link.channel()
        channel.confirm_delivery()
        channel.queue_declare("theirs")
        for kind in (None, "appliance.pack"):
            channel.basic_publish(
                "", "appliance.store", b"[]", pika.BasicProperties(type=kind), mandatory=True
            )
        # A forged baton, too, is no baton.
        channel.basic_publish(
            "", "appliance.drain.theirs", b"",
            pika.BasicProperties(headers={"name": "f" * 28, "done": 7}),
        )  # fmt: skip
        channel.basic_publish("", "theirs", b"after it")
    found = "SELECT reason FROM dead_letters WHERE topic = 'appliance.store'"
    wait_until(lambda: len(running.query(found)) == 2, "two letters", 30, running.logs)
    reasons = {row["reason"] for row in running.query(found)}
    assert reasons == {"foreign-envelope", "undecodable"}
    (row,) = running.wait_rows(1, "theirs")
    assert row["body"] == "after it"


def test_message_with_an_id_is_one_row_and_one_that_cannot_be_kept_a_dead_letter(running):
    with channel_of(running) as channel:
        channel.queue_declare("Odd-Name", durable=True)
        channel.queue_bind("Odd-Name", "amq.topic", "orders.*")
        for _ in range(2):
            channel.basic_publish(
                "amq.topic", "orders.new", b"7.50",
                pika.BasicProperties(
                    content_type="text/plain", message_id="sale-1", headers={"Shop": "north"}
                ),
            )  # fmt: skip
        channel.queue_declare("bad")
        for body, kind in ((b"", None), (b"x" * (2**20 + 1), None), (b"[]", "appliance.pack")):
            channel.basic_publish("", "bad", body, pika.BasicProperties(type=kind))
        channel.basic_publish("", "bad", b"good")
        channel.basic_publish("", "Odd-Name", b"last")
    rows = running.wait_rows(2, "odd", 60)
    assert [row["body"] for row in rows] == ["7.50", "last"]
    assert rows[0]["content_type"] == "text/plain"
    assert json.loads(rows[0]["meta"]) == {
        "via": "amqp", "message_id": "sale-1", "queue": "Odd-Name", "exchange": "amq.topic",
        "routing_key": "orders.new", "headers": {"shop": "north"},
    }  # fmt: skip
    running.wait_rows(1, "bad", 60)
    letters = running.query("SELECT reason FROM dead_letters WHERE topic = 'bad' ORDER BY seq")
    assert [row["reason"] for row in letters] == ["empty", "too-large", "foreign-envelope"]


@pytest.mark.long
def test_worker_that_froze_while_it_drained_doubles_nothing_when_it_wakes(running):
    sender = Sender(running, "durable")
    sender.sent = [row["body"] for row in running.rows("durable")]
    sender.start()
    try:
        reader, *_ = wait_until(
            lambda: [w for w in running.workers if '"draining"' in w.log_now], "one drains"
        )
        with frozen(reader.pid):
            time.sleep(1)
            sender.stopping.set()
            sender.join()
            running.wait_rows(len(sender.sent), "durable", 90)
    finally:
        sender.stopping.set()
        sender.join()
    running.publish("after", b"x", Prefer="wait=60").raise_for_status()
    assert [row["body"] for row in running.rows("durable")] == sender.sent


def test_flood_of_a_drained_queue_leaves_the_intake_its_turn(running):
    with channel_of(running) as channel:
        channel.queue_declare("flood")
    with pika.BlockingConnection(pika.URLParameters(running.broker.url)) as link:
        channel = link.channel()
        for _ in range(30_000):
            channel.basic_publish("", "flood", b"x" * 200)
    for _ in range(5):
        assert running.publish("beside", b"x", Prefer="wait=30").status_code == 201
    assert running.count("flood") < 30_000
    running.wait_rows(30_000, "flood", 120)


def test_broker_killed_amid_a_drain_loses_no_confirmed_line_of_a_durable_queue(running):
    sent, confirmed = [], 0
    with channel_of(running) as channel, contextlib.suppress(pika.exceptions.AMQPError):
        channel.queue_declare("kept", durable=True)
        time.sleep(NEW_QUEUE_SECONDS)  # until then a kill takes the queue itself away
        killer = threading.Timer(1.0, running.broker.process.kill)
        killer.start()
        while len(sent) < 100_000:
            sent.append(f"before {len(sent)}")
            channel.basic_publish(
                "", "kept", sent[-1].encode(), pika.BasicProperties(delivery_mode=2)
            )
            confirmed = len(sent)
    killer.join()
    running.broker.start()
    running.wait_ready()
    with channel_of(running) as channel:
        channel.basic_publish("", "kept", b"after")
    newest = "SELECT 1 FROM messages WHERE topic = 'kept' AND body = 'after'"
    wait_until(lambda: running.query(newest), "it", 90, running.logs)
    *rows, last = (row["body"] for row in running.rows("kept"))
    assert last == "after"
    assert set(sent[:confirmed]) <= set(rows) <= set(sent)
    # Doubled are lines of the last moment before the kill, one behind another: those stored and not
    # acknowledged yet, and those whose acknowledgement RabbitMQ had not written yet.
    counts = Counter(rows)
    doubled = sorted(sent.index(line) for line, count in counts.items() if count > 1)
    assert max(counts.values()) <= 2
    assert doubled == [*range(min(doubled, default=0), max(doubled, default=-1) + 1)]


def logs(stack):
    return "".join(worker.log for worker in stack.workers)
