"""Several addresses of one broker, and queues that an earlier version made."""

import asyncio
import contextlib
import time

import pika
import pytest
from harness import free_port

from appliance.broker import base, topology
from appliance.broker.consumer import AmqpConsumer
from appliance.broker.publish.publisher import AmqpPublisher
from appliance.config import load
from appliance.model.wire import Message

pytestmark = pytest.mark.slow

#: The arguments of both queues since the first version. They can't change: the broker refuses to
#: declare a queue with others.
SINCE_VERSION_1 = {
    "x-queue-type": "quorum",
    "x-single-active-consumer": True,
    "x-delivery-limit": 1_000_000,
}


class Relay:
    """One more address of a broker, which can go away."""

    def __init__(self, port):
        self.broker_port = port
        self.port = 0
        self.connections = 0
        self._server = None
        self._writers = []

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
                writer.write(data)
        writer.close()

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
    assert topology.queue_arguments(5) == {**SINCE_VERSION_1, "x-quorum-initial-group-size": 5}


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
