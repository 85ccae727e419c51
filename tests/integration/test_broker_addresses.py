"""Several addresses of one broker, and queues that an earlier version made."""

import asyncio
import contextlib
import time

import pika
import pytest
from harness import free_port

from appliance.broker import base, queue_members, topology
from appliance.broker import broker_addresses as addresses
from appliance.broker.consumer import AmqpConsumer
from appliance.broker.node import release
from appliance.broker.publish.publisher import AmqpPublisher
from appliance.config import load
from appliance.errors import BrokerError
from appliance.model.wire import Message

pytestmark = pytest.mark.slow

#: The arguments of both queues since the first version. They can't change: the broker refuses to
#: declare a queue with others.
SINCE_VERSION_1 = {
    "x-queue-type": "quorum",
    "x-single-active-consumer": True,
    "x-delivery-limit": 1_000_000,
}


@pytest.fixture(autouse=True)
def order_of_the_settings(monkeypatch):
    """Have nodes tried as they are named; each process has an order of its own."""
    monkeypatch.setattr(addresses, "_place", lambda _: b"")


class Relay:
    """One more address of a broker, which can go away."""

    def __init__(self, port):
        self.broker_port = port
        self.port = 0
        self.connections = 0
        self._server = None
        self._writers = []
        self._passes = True

    async def start(self):
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _relay(self, reader, writer):
        self.connections += 1
        there, back = await asyncio.open_connection("127.0.0.1", self.broker_port)
        self._writers += [writer, back]
        await asyncio.gather(self._copy(reader, back), self._copy(there, writer))

    async def _copy(self, reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(2**16):
                if self._passes:
                    writer.write(data)
        writer.close()

    def cut(self):
        """Lose whatever is sent from now on, as a cut network does: no connection ends."""
        self._passes = False

    async def die(self):
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)


def config(broker, data, *ports):
    there = broker.url.split("@")[0]
    urls = [f"{there}@127.0.0.1:{port}/" for port in ports]
    return load({"APPLIANCE_DATA": str(data), "APPLIANCE_BROKER_URL": ",".join(urls)})


async def until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


def test_a_link_goes_on_with_another_address_where_one_is_dead_or_dies(broker, tmp_path):
    async def body():
        relay = Relay(broker.port)
        await relay.start()
        publisher = AmqpPublisher(config(broker, tmp_path, free_port(), relay.port, broker.port))
        running = asyncio.create_task(publisher.run())
        began = time.monotonic()
        await publisher.post("orders", Message("0" * 24, "2026-11-21T01:25:21.132Z", b"first"))
        # The first address is dead: one back-off, and the time for which the queue is new.
        assert time.monotonic() - began < 4.5
        assert relay.connections == 1
        await relay.die()
        await until(lambda: not publisher.state().connected)
        began = time.monotonic()
        await publisher.post("orders", Message("1" * 24, "2026-11-21T01:25:21.132Z", b"second"))
        assert time.monotonic() - began < 3
        assert publisher.state().accepting
        await publisher.stop()
        await running

    asyncio.run(body())


def test_clients_leave_a_node_of_a_cluster_that_is_cut_off_within_6_s(broker, tmp_path):
    async def body():
        relay, got = Relay(broker.port), []
        await relay.start()
        settings = config(broker, tmp_path, relay.port, broker.port)
        publisher, consumer = AmqpPublisher(settings), AmqpConsumer(settings)
        running = [
            asyncio.create_task(publisher.run()),
            asyncio.create_task(consumer.run(got.append)),
        ]
        await publisher.post("orders", Message("0" * 24, "2026-11-21T01:25:21.132Z", b"first"))
        await until(lambda: got)
        assert relay.connections == 2
        relay.cut()
        began, before = time.monotonic(), len(got)
        waiting = publisher.post("orders", Message("1" * 24, "2026-11-21T01:25:21.132Z", b"2nd"))
        await until(lambda: publisher.state().unsure_seconds > 2.0, 2.9)  # so /readyz is red
        await waiting  # the deadline is 5 s
        # What was not acknowledged at the old node comes again when that has gone; so it does here.
        await until(lambda: not publisher.state().unsure_seconds)
        consumer_left = time.monotonic()
        await until(lambda: consumer._link._last_address[1] == broker.port and consumer.consuming)
        assert time.monotonic() - began < 6, consumer_left - began
        await relay.die()
        await until(lambda: len(got) > before)
        for each in (consumer, publisher):
            await each.stop()
        await asyncio.gather(*running)

    asyncio.run(body())


def test_a_process_waits_for_a_queue_of_an_outside_broker_once(broker, tmp_path):
    """Another host may have made it this moment, so the first look can't show its age."""

    async def accepting(publisher):
        began = time.monotonic()
        await until(lambda: publisher.state().accepting)
        return time.monotonic() - began

    async def body():
        relay = Relay(broker.port)
        await relay.start()
        publisher = AmqpPublisher(config(broker, tmp_path, relay.port, broker.port))
        running = asyncio.create_task(publisher.run())
        assert await accepting(publisher) > topology._SETTLE - 0.1
        await relay.die()
        await until(lambda: not publisher.state().connected)
        assert await accepting(publisher) < 1.5
        await publisher.stop()
        await running

    asyncio.run(body())
    assert not (tmp_path / "broker").exists()  # no mark: the node is not ours


def test_queues_of_an_earlier_version_are_declared_as_they_are(broker, tmp_path):
    with pika.BlockingConnection(pika.URLParameters(broker.url)) as link:
        channel = link.channel()
        for queue in (base.QUEUE, base.DEAD):
            channel.queue_delete(queue)
            channel.queue_declare(queue, durable=True, arguments=SINCE_VERSION_1)

    async def body():
        publisher = AmqpPublisher(config(broker, tmp_path, broker.port))
        running = asyncio.create_task(publisher.run())
        await publisher.post("orders", Message("0" * 24, "2026-11-21T01:25:21.132Z", b"kept"))
        await publisher.stop()
        await running

    asyncio.run(body())
    assert topology.queue_arguments() == SINCE_VERSION_1
    assert topology.queue_arguments(3) == {
        **SINCE_VERSION_1, "x-quorum-initial-group-size": 3, "x-queue-leader-locator": "balanced",
    }  # fmt: skip


def test_queues_of_a_cluster_are_shared_by_its_nodes_and_taken_as_they_are(broker, tmp_path):
    def declared(channel, arguments):
        for queue in (base.QUEUE, base.DEAD):
            channel.queue_declare(queue, durable=True, arguments=arguments)

    async def publish(number):
        publisher = AmqpPublisher(config(broker, tmp_path, broker.port, broker.port))
        running = asyncio.create_task(publisher.run())
        body = Message(f"{number}" * 24, "2026-11-21T01:25:21.132Z", b"kept")
        await publisher.post("orders", body)
        await publisher.stop()
        await running

    with pika.BlockingConnection(pika.URLParameters(broker.url)) as link:
        channel = link.channel()
        for queue in (base.QUEUE, base.DEAD):
            channel.queue_delete(queue)
        asyncio.run(publish(1))
        declared(channel, topology.queue_arguments(3))  # the same arguments, or it raises
        for queue in (base.QUEUE, base.DEAD):
            channel.queue_delete(queue)
        declared(channel, SINCE_VERSION_1)
        asyncio.run(publish(2))
        declared(channel, SINCE_VERSION_1)
        for queue in (base.QUEUE, base.DEAD):
            channel.queue_delete(queue)


def test_a_broker_tells_which_nodes_keep_a_queue_or_that_it_cannot(broker):
    with pika.BlockingConnection(pika.URLParameters(broker.url)) as link:
        link.channel().queue_declare("kept", durable=True, arguments=SINCE_VERSION_1)
    address = pika.URLParameters(broker.url)
    if is_new_broker():
        found = [queue_members.members(address, queue) for queue in ("kept", "no such queue")]
        assert found == [["appliance@localhost"], None]
    else:
        with pytest.raises(BrokerError, match="does not tell"):
            queue_members.members(address, "kept")
    address.credentials = pika.PlainCredentials("appliance", "wrong")
    with pytest.raises(BrokerError, match="does not tell"):
        queue_members.members(address, "kept")


def is_new_broker():
    """Whether the RabbitMQ of this machine tells: from 4.0 on."""
    return release.check(load({}))[0] >= 4


def test_a_consumer_that_stops_tells_the_broker(broker, tmp_path):
    def cut_off():
        """Lines on clients that had logged in; the harness looks whether the port answers."""
        lines = broker.process.log.splitlines()
        return [line for line in lines if "unexpectedly closed" in line and "user:" in line]

    before = cut_off()

    async def body():
        publisher = AmqpPublisher(config(broker, tmp_path, broker.port))
        consumer = AmqpConsumer(config(broker, tmp_path, broker.port))
        publishing = asyncio.create_task(publisher.run())
        consuming = asyncio.create_task(consumer.run(lambda _: None))
        await until(lambda: consumer.consuming)
        await consumer.stop()
        assert consuming.done() or not await asyncio.wait_for(consuming, 1)
        await publisher.stop()
        await publishing

    asyncio.run(body())
    time.sleep(0.5)  # the broker logs a moment after
    assert cut_off() == before
