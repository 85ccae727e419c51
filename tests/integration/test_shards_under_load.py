"""Several shards on a real broker: each topic in order, and their number changed under load."""

import contextlib
import shutil

import httpx
import pika
import pytest
from harness import START_SECONDS, Broker, Process, Stack, free_port, wait_until
from load import Load, Style, amqp
from postgres import PostgresServer
from postgres_stack import PostgresStack

from appliance.broker import shards
from appliance.broker.base import EXCHANGE, QUEUE
from appliance.broker.shards import Shard


class Sharded(Stack):
    """API and workers that use a broker as one of someone else's."""

    def __init__(self, folder, settings, broker):
        super().__init__(folder, 0, settings, broker)
        url = broker.url
        self.env = {**self.env, "APPLIANCE_BROKER_URL": url}
        self.api = self.process("api")

    def process(self, name, **settings):
        return Process(name, {**self.env, **settings}, self.folder)

    def begin(self, number):
        """Start the API with a number of shards."""
        self.env["APPLIANCE_SHARDS"] = self.api.env["APPLIANCE_SHARDS"] = str(number)
        self.api.start()
        wait_until(self.accepts, "the API accepts messages", START_SECONDS, self.logs)

    def accepts(self):
        with contextlib.suppress(httpx.TransportError):
            return self.get("/readyz").json()["checks"].get("broker_accepts", False)
        return False

    def start_workers(self, count):
        self.workers = [self.process(f"worker-{n}") for n in range(count)]
        for worker in self.workers:
            worker.start()

    def stop_workers(self):
        for worker in self.workers:
            worker.stop()

    def waiting(self):
        """Return what waits in each queue of messages that there is."""
        found = {}
        with amqp(self) as link:
            for number in (1, 2, 4):
                for shard in shards.all_of(number):
                    channel = link.channel()
                    with contextlib.suppress(pika.exceptions.ChannelClosedByBroker):
                        state = channel.queue_declare(shard.queue, passive=True).method
                        found[shard.queue] = state.message_count
                        channel.close()
        return found

    def wait_only(self, number):
        """Wait until the queues of this number are the only ones."""
        names = {shard.queue for shard in shards.all_of(number)}
        wait_until(
            lambda: set(self.waiting()) == names, f"only {number} shards", 60,
            lambda: f"{self.waiting()}\n{self.logs()}",
        )  # fmt: skip


class ShardedOnPostgres(Sharded, PostgresStack):
    """The same with the messages in PostgreSQL."""


def hold(stack, load):
    """Hold the store to the promise once all is stored."""
    wait_until(
        lambda: load.stored() >= load.sending.journal.accepted, "all rows", 90,
        lambda: f"{stack.waiting()}\n{load.check().faults}\n{stack.logs()}",
    )  # fmt: skip
    wait_until(lambda: not any(stack.waiting().values()), "all queues are empty", 60, stack.logs)
    findings = load.check()
    assert not findings.faults, f"{load.words(findings)}\n{stack.logs()}"
    for worker in stack.workers:
        assert "confirmed envelopes missing" not in worker.log
    verified = stack.cli("verify")
    assert verified.returncode == 0, verified.stdout


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    broker = Broker(tmp_path_factory.mktemp("broker"), {})
    broker.start()
    broker.wait()
    yield broker
    broker.process.kill()


@pytest.fixture
def broker(node):
    """A broker that another test left with as many shards as it had."""
    yield node
    for path in node.data.iterdir():
        if path.name != "broker":
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.fixture
def stack(tmp_path, broker):
    stack = Sharded(tmp_path, {}, broker)
    stack.cli("migrate").check_returncode()
    yield stack
    stack.close_but_broker()


def test_number_is_changed_up_and_down_under_load_and_each_topic_keeps_its_order(tmp_path, broker):
    server = PostgresServer()
    stack = ShardedOnPostgres(tmp_path, {"database_url": server.new_database()}, broker)
    try:
        stack.cli("migrate").check_returncode()
        with Load(stack, "changed", 8, styles=(Style.KEYED, Style.PLAIN, Style.BATCH)) as load:
            stack.begin(1)
            load.wait_accepted(100)
            stack.api.stop()
            stack.begin(4)  # while the messages before wait, and nobody stores
            load.wait_accepted(100)
            before = stack.waiting()
            assert before[QUEUE], before
            assert sum(bool(before.get(shard.queue)) for shard in shards.all_of(4)) > 1, before
            assert load.stored() == 0
            stack.start_workers(4)
            stack.wait_only(4)
            load.wait_accepted(100)
            stack.workers[0].kill()
            load.wait_accepted(100)
            stack.stop_workers()
            stack.api.kill()
            stack.begin(2)
            load.wait_accepted(100)
            stack.start_workers(2)
            stack.wait_only(2)
            stack.api.stop()
            stack.begin(1)
            load.wait_accepted(100)
            stack.wait_only(1)  # the workers go over by themselves
            load.wait_accepted(100)
        hold(stack, load)
    finally:
        stack.close_but_broker()
        server.remove()


def test_all_that_one_queue_does_works_over_shards(stack):
    stack.env["APPLIANCE_LOG_LEVEL"] = "debug"
    stack.begin(4)
    stack.start_workers(4)
    topics = [f"t{n}" for n in range(12)]
    assert {shards.of_topic(topic, 4) for topic in topics} == {0, 1, 2, 3}
    for topic in topics:
        assert stack.publish(topic, b"x", Prefer="wait=30").status_code == 201
    state = stack.get("/v1/status").json()["broker"]
    assert [shard["accepting"] for shard in state["shards"]] == [True] * 4
    told = b"in 4 shards; 1 worker at each"  # the API asks once a second
    wait_until(lambda: told in stack.cli("status").stdout, "a worker at each", 30, stack.logs)
    metrics = stack.get("/metrics").text
    assert 'appliance_shard_envelopes{shard="3"} 0' in metrics

    with amqp(stack) as link:  # another client names no shard
        channel = link.channel()
        channel.confirm_delivery()
        channel.basic_publish(EXCHANGE, "t3", b"from another client", mandatory=True)
    stack.wait_rows(13)

    asked = stack.client.delete("/v1/topics/t5/messages")
    assert asked.status_code in (200, 202), asked.text
    wait_until(lambda: stack.count("t5") == 0, "t5 is deleted", 30, stack.logs)
    assert stack.count() == 12
    stack.publish("t5", b"again", Prefer="wait=30")

    for worker in stack.workers:
        stored = worker.log.count("envelopes stored")
        for topic in topics:
            assert stack.publish(topic, b"y", Prefer="wait=30").status_code == 201
        # Each worker is the one for a shard of its own.
        wait_until(
            lambda worker=worker, stored=stored: worker.log.count("envelopes stored") > stored,
            f"{worker.name} stores",
            30,
            stack.logs,
        )
    stack.workers[3].kill()
    stack.workers[2].stop()
    for topic in topics:  # two of the shards have no worker until the others see it
        assert stack.publish(topic, b"z", Prefer="wait=30").status_code == 201
    stack.workers[3].start()
    wait_until(lambda: "shard taken" in stack.workers[3].log_now, "it has its shard back", 30)
    for topic in topics:
        assert stack.publish(topic, b"z", Prefer="wait=30").status_code == 201
    assert stack.cli("verify").returncode == 0


def test_process_with_an_earlier_number_refuses_and_says_so_and_loses_nothing(stack, tmp_path):
    stack.begin(2)
    stack.start_workers(2)
    with Load(stack, "overlap") as load:
        load.wait_accepted(50)
        address = f"127.0.0.1:{free_port()}"
        later = Process(
            "api-later",
            {**stack.env, "APPLIANCE_SHARDS": "4", "APPLIANCE_HTTP": address},
            tmp_path,
        )
        later.start()
        try:
            wait_until(
                lambda: not stack.accepts(), "the earlier one refuses", START_SECONDS, stack.logs
            )
            wait_until(
                lambda: "4 shards are in force" in str(stack.get("/v1/status").json()["broker"]),
                "it says why", 30, stack.logs,
            )  # fmt: skip
            stack.wait_only(4)
        finally:
            later.stop()
        stack.api.stop()
        stack.begin(2)  # the last that was started decides
        load.wait_accepted(50)
        stack.wait_only(2)
    hold(stack, load)
    assert Shard(2, 0).queue in stack.waiting()
