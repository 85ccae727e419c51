"""A simulated broker: the one part of the appliance that a test replaces, and only here.

It stands at the place of pika's connection (`link.FrameConnection`), so that our own link,
topology, publisher and consumer run as they are. It keeps what RabbitMQ's quorum queues promise,
and no more:

- a message is confirmed once it is on disk, and a crash can lose any end of what is not;
- a new queue's name is in memory only for half a second, and a crash in that time loses the queue;
- a message that was delivered and not acknowledged comes again, to its old place in the queue, and
  after a crash so does one whose acknowledgement was not on disk;
- one consumer is active, and the next one in line when it has gone;
- what no queue takes is returned, and then confirmed; what a full queue refuses is refused.

Nothing happens by itself: the test says when the broker reads, when it syncs, when a side hears of
the other's end.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pika
import pika.exceptions
import pika.frame
from clockwork import Clock

from appliance.broker.base import EXCHANGE, USER

#: Seconds for which a crash forgets a new quorum queue.
NAME_IN_MEMORY = 0.5


@dataclass
class Stored:
    """A message in a queue. `settling`: its acknowledgement is not on disk yet. `delivered`: once
    at least."""

    key: str
    properties: Any
    body: bytes
    settling: bool = False
    delivered: bool = False
    holder: "Channel | None" = None


@dataclass
class Queue:
    name: str
    declared_at: float
    messages: dict[int, Stored] = field(default_factory=dict)  # in their order
    consumers: list[tuple["Channel", Callable[..., Any]]] = field(default_factory=list)


class Broker:
    """The node. With `reorders`, and by `duplicate` and `drop`, it is worse than RabbitMQ."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.is_up = True
        self.is_full = False
        self.alarm = False
        self.reorders = False
        self.connections: list[Connection] = []
        #: Those too that only the client still knows.
        self.known: list[Connection] = []
        self.queues: dict[str, Queue] = {}
        self._exchanges: set[str] = set()
        self._bindings: set[tuple[str, str]] = set()
        #: What is not on disk yet, in order: what to do once it is, and what then to tell whom.
        self._log: deque[tuple[Callable[[], None], Callable[[], None], Callable[[], None]]] = (
            deque()
        )
        self._next_uid = 1

    # --- the machine it runs on

    def connect(
        self,
        parameters: Any,
        on_open_callback: Callable[..., Any],
        on_open_error_callback: Callable[..., Any],
        on_close_callback: Callable[..., Any],
        custom_ioloop: Any,
    ) -> "Connection":
        """Stand for FrameConnection's constructor."""
        connection = Connection(self, custom_ioloop, on_close_callback)
        self.known.append(connection)
        if self.is_up:
            self.connections.append(connection)
            connection.ask(lambda: connection.tell(on_open_callback, connection))
        else:
            error = pika.exceptions.AMQPConnectionError("refused")
            connection.is_closed = True
            connection.tell(on_open_error_callback, connection, error, even_closed=True)
        return connection

    def sync(self, most: int | None = None) -> bool:
        """Have the oldest part of the log on disk; return whether there was any."""
        worked = False
        while self._log and most != 0:
            apply, answer, _ = self._log.popleft()
            apply()
            answer()
            worked = True
            most = None if most is None else most - 1
        return worked

    def crash(self, on_disk: int, heard: int) -> None:
        """End at once. `on_disk` entries of the log were written; each client still hears `heard`.

        Start again with `start`.
        """
        self.is_up = False
        for apply, _, undo in self._log:
            (apply if on_disk > 0 else undo)()
            on_disk -= 1
        self._log.clear()
        for connection in list(self.connections):
            connection.cut(0, heard)
            self.forget(connection)
        for queue in list(self.queues.values()):
            if self._clock.now < queue.declared_at + NAME_IN_MEMORY:
                del self.queues[queue.name]
                self._bindings = {pair for pair in self._bindings if pair[1] != queue.name}
        self.is_full = self.alarm = False

    def start(self) -> None:
        self.is_up = True

    def set_alarm(self, alarm: bool) -> None:
        self.alarm = alarm
        for connection in self.connections:
            connection.tell_blocked(alarm)

    # --- what a connection asks for

    def publish(
        self, channel: "Channel", exchange: str, key: str, properties: Any, body: bytes
    ) -> None:
        channel.published += 1
        tag = channel.published
        names = (
            [key] * (key in self.queues)
            if not exchange
            else [name for source, name in self._bindings if source == exchange]
        )
        if not names:
            for callback in channel.on_return:
                channel.connection.tell(callback, channel, None, properties, body)
            channel.confirm(tag, pika.spec.Basic.Ack)
        elif self.is_full:
            channel.confirm(tag, pika.spec.Basic.Nack)
        else:
            (name,) = names
            self._put(
                name, key, properties, body, lambda: channel.confirm(tag, pika.spec.Basic.Ack)
            )

    def publish_foreign(
        self, key: str, properties: Any, body: bytes, confirmed: Callable[[], None]
    ) -> None:
        """Take a message of another program, which is told when it is on disk.

        Of a queue that is new it is told nothing: that program does not wait as ours do.
        """
        for source, name in self._bindings:
            if source == EXCHANGE:
                is_new = self._clock.now < self.queues[name].declared_at + NAME_IN_MEMORY
                self._put(name, key, properties, body, _nothing if is_new else confirmed)

    def _put(
        self, name: str, key: str, properties: Any, body: bytes, confirmed: Callable[[], None]
    ) -> None:
        queue = self.queues[name]

        def apply() -> None:
            queue.messages[self._next_uid] = Stored(key, properties, body)
            self._next_uid += 1

        self._log.append((apply, confirmed, _nothing))

    def acknowledge(self, channel: "Channel", tag: int) -> None:
        tags = [each for each in channel.unacknowledged if each <= tag]
        if not tags:
            channel.closed_by_broker(406, f"unknown delivery tag {tag}")
            return
        settled = [channel.unacknowledged.pop(each) for each in tags]
        for queue, uid in settled:
            queue.messages[uid].settling = True

        def apply() -> None:
            for queue, uid in settled:
                queue.messages.pop(uid, None)

        def undo() -> None:
            for queue, uid in settled:
                if uid in queue.messages:
                    queue.messages[uid].settling = False

        self._log.append((apply, _nothing, undo))

    def declare_queue(self, name: str) -> None:
        if name not in self.queues:
            self.queues[name] = Queue(name, self._clock.now)

    def declare_exchange(self, name: str) -> None:
        self._exchanges.add(name)

    def has_exchange(self, name: str) -> bool:
        return name in self._exchanges

    def bind(self, queue: str, exchange: str) -> None:
        assert queue in self.queues
        assert exchange in self._exchanges
        self._bindings.add((exchange, queue))

    def forget(self, connection: "Connection") -> None:
        """Notice the end of a connection: what it holds goes back, the next consumer is active."""
        if connection in self.connections:
            self.connections.remove(connection)
        for channel in connection.channels:
            self.forget_channel(channel)

    def forget_channel(self, channel: "Channel") -> None:
        channel.unacknowledged.clear()
        for queue in self.queues.values():
            queue.consumers = [pair for pair in queue.consumers if pair[0] is not channel]
            back = [uid for uid, each in queue.messages.items() if each.holder is channel]
            for uid in back:
                queue.messages[uid].holder = None
            if self.reorders and back:
                # Behind all others, the last one first: worse than any broker is known to be.
                for uid in reversed(back):
                    queue.messages[uid] = queue.messages.pop(uid)

    def deliver(self, most: int | None = None) -> bool:
        """Deliver what the active consumers may have; return whether there was anything."""
        worked = False
        for queue in self.queues.values():
            if not queue.consumers:
                continue
            channel, callback = queue.consumers[0]
            for uid, message in queue.messages.items():
                if most == 0 or len(channel.unacknowledged) >= channel.prefetch:
                    break
                if message.holder is None and not message.settling:
                    message.holder = channel
                    channel.delivered += 1
                    channel.unacknowledged[channel.delivered] = (queue, uid)
                    method = SimpleNamespace(
                        exchange=EXCHANGE,  # what has none is of our own types
                        routing_key=message.key,
                        delivery_tag=channel.delivered,
                        redelivered=message.delivered,
                    )
                    message.delivered = True
                    channel.connection.tell(
                        callback, channel, method, message.properties, message.body
                    )
                    worked = True
                    most = None if most is None else most - 1
        return worked

    def duplicate(self) -> None:
        """Have the message that waits longest in a queue twice: no broker should, but it may."""
        for queue in self.queues.values():
            for message in list(queue.messages.values())[:1]:
                queue.messages[self._next_uid] = Stored(
                    message.key, message.properties, message.body
                )
                self._next_uid += 1

    def drop(self) -> Stored | None:
        """Lose the envelope that waits longest though it was on disk: a disk that lies, say."""
        for queue in self.queues.values():
            for uid, message in queue.messages.items():
                ours = (message.properties.type or "") in (
                    "appliance.message",
                    "appliance.pack",
                    "appliance.mixed",
                )
                if ours and message.properties.headers and not (message.holder or message.settling):
                    return queue.messages.pop(uid)
        return None

    def delete_queues(self) -> None:
        """Delete the queues, as anyone may who has the password."""
        for queue in self.queues.values():
            for channel, _ in queue.consumers:
                channel.connection.tell(channel.cancelled)
        self.queues.clear()
        self._bindings.clear()

    def depth(self) -> int:
        return sum(len(queue.messages) for queue in self.queues.values()) + len(self._log)


def _nothing() -> None:
    pass


class Connection:
    """pika's connection, as far as our link uses it, and its two directions on the network."""

    def __init__(self, broker: Broker, loop: Any, on_close: Callable[..., Any]) -> None:
        self.broker = broker
        self._loop = loop
        self._on_close = [on_close]
        self._on_blocked: list[Callable[..., Any]] = []
        self._on_unblocked: list[Callable[..., Any]] = []
        self.channels: list[Channel] = []
        self.params = SimpleNamespace(frame_max=131072, credentials=SimpleNamespace(username=USER))
        self.is_closed = False
        self.is_closing = False
        self.publishes = False
        self.to_broker: deque[Callable[[], None]] = deque()
        self.to_client: deque[tuple[Callable[..., Any], tuple[Any, ...], bool]] = deque()
        #: The network or the broker has ended it; the client may not know yet.
        self.is_cut = False
        if broker.alarm:
            self.tell_blocked(True)

    # --- the network

    def ask(self, operation: Callable[[], None]) -> None:
        if not self.is_cut:
            self.to_broker.append(operation)

    def tell(self, callback: Callable[..., Any], *args: Any, even_closed: bool = False) -> None:
        if not self.is_cut:
            self.to_client.append((callback, args, even_closed))

    def read(self, most: int | None = None) -> bool:
        """Have the broker read what the client sent; return whether there was anything."""
        worked = False
        while self.to_broker and most != 0 and not (self.publishes and self.broker.alarm):
            self.to_broker.popleft()()
            worked = True
            most = None if most is None else most - 1
        return worked

    def receive(self, most: int | None = None) -> bool:
        """Have the client hear what the broker sent; return whether there was anything."""
        worked = False
        while self.to_client and most != 0:
            callback, args, even_closed = self.to_client.popleft()
            if even_closed or not self.is_closed:
                self._loop.call(callback, *args)
            worked = True
            most = None if most is None else most - 1
        return worked

    def cut(self, arrives: int, heard: int) -> None:
        """End it: of what is under way, so much still arrives at either end."""
        if self.is_cut:
            return
        while len(self.to_broker) > arrives:
            self.to_broker.pop()
        while len(self.to_client) > heard:
            self.to_client.pop()
        self.to_broker.append(lambda: self.broker.forget(self))
        self.to_client.append((self._ended, (pika.exceptions.StreamLostError("reset"),), True))
        self.is_cut = True

    def _ended(self, error: Exception) -> None:
        if self.is_closed:
            return
        self.is_closed = True
        for channel in self.channels:
            channel.ended(error)
        for callback in self._on_close:
            callback(self, error)

    # --- what our link calls

    def channel(self, on_open_callback: Callable[..., Any]) -> None:
        if self.is_closed or self.is_closing:
            raise pika.exceptions.ConnectionWrongStateError("closed")

        def opened() -> None:
            channel = Channel(self, len(self.channels) + 1)
            self.channels.append(channel)
            self.tell(on_open_callback, channel)

        self.ask(opened)

    def send_together(self, frames: list[bytes]) -> None:
        data = b"".join(frames)
        while data:
            size, method = pika.frame.decode_frame(data)
            data = data[size:]
            size, header = pika.frame.decode_frame(data)
            data = data[size:]
            body = b""
            while len(body) < header.body_size:
                size, part = pika.frame.decode_frame(data)
                data = data[size:]
                body += part.fragment
            channel = self.channels[method.channel_number - 1]
            assert method.method.mandatory
            channel.publish(
                method.method.exchange, method.method.routing_key, header.properties, body
            )

    def close_in_order(self) -> None:
        self.is_closing = True

        def closed() -> None:
            self.broker.forget(self)
            self.tell(self._ended, pika.exceptions.ConnectionClosedByClient(200, "bye"))

        self.ask(closed)

    def add_on_close_callback(self, callback: Callable[..., Any]) -> None:
        self._on_close.append(callback)

    def add_on_open_error_callback(self, callback: Callable[..., Any]) -> None:
        pass

    def add_on_connection_blocked_callback(self, callback: Callable[..., Any]) -> None:
        self._on_blocked.append(callback)

    def add_on_connection_unblocked_callback(self, callback: Callable[..., Any]) -> None:
        self._on_unblocked.append(callback)

    def tell_blocked(self, blocked: bool) -> None:
        def tell() -> None:
            for callback in self._on_blocked if blocked else self._on_unblocked:
                callback(self, None)

        self.tell(tell)


class Channel:
    """pika's channel, as far as we use it."""

    def __init__(self, connection: Connection, number: int) -> None:
        self.connection = connection
        self.channel_number = number
        self.is_open = True
        self.on_return: list[Callable[..., Any]] = []
        self._on_close: list[Callable[..., Any]] = []
        self._on_cancel: list[Callable[..., Any]] = []
        self._on_confirm: Callable[..., Any] = lambda _: None
        self.prefetch = 10**6
        self.published = 0
        self.delivered = 0
        #: tag -> the queue and the message in it
        self.unacknowledged: dict[int, tuple[Queue, int]] = {}

    # --- what the broker says

    def confirm(self, tag: int, method: type) -> None:
        frame = SimpleNamespace(method=method(tag, False))
        self.connection.tell(lambda: self.is_open and self._on_confirm(frame))

    def cancelled(self) -> None:
        for callback in self._on_cancel:
            callback(None)

    def closed_by_broker(self, code: int, text: str) -> None:
        self.connection.broker.forget_channel(self)
        self.connection.tell(self.ended, pika.exceptions.ChannelClosedByBroker(code, text))

    def ended(self, error: Exception) -> None:
        if self.is_open:
            self.is_open = False
            for callback in self._on_close:
                callback(self, error)

    # --- what our modules call

    def _call(self, work: Callable[[], Any], callback: Callable[..., Any]) -> None:
        self._ask(lambda: self.connection.tell(callback, work()))

    def _ask(self, operation: Callable[[], None]) -> None:
        if not self.is_open or self.connection.is_closed:
            raise pika.exceptions.ChannelWrongStateError("closed")
        self.connection.ask(operation)

    def add_on_return_callback(self, callback: Callable[..., Any]) -> None:
        self.on_return.append(callback)

    def add_on_close_callback(self, callback: Callable[..., Any]) -> None:
        self._on_close.append(callback)

    def add_on_cancel_callback(self, callback: Callable[..., Any]) -> None:
        self._on_cancel.append(callback)

    def confirm_delivery(
        self, on_confirm: Callable[..., Any], callback: Callable[..., Any]
    ) -> None:
        self._on_confirm = on_confirm
        self._call(_nothing, callback)

    def exchange_declare(
        self,
        exchange: str,
        callback: Callable[..., Any],
        exchange_type: str = "",
        durable: bool = False,
        passive: bool = False,
    ) -> None:
        broker = self.connection.broker

        def declare() -> None:
            if passive and not broker.has_exchange(exchange):
                self.closed_by_broker(404, f"no exchange {exchange}")
                return
            broker.declare_exchange(exchange)
            self.connection.tell(callback, SimpleNamespace(method=SimpleNamespace()))

        self._ask(declare)

    def queue_declare(
        self,
        queue: str,
        callback: Callable[..., Any],
        passive: bool = False,
        durable: bool = False,
        arguments: dict[str, Any] | None = None,
    ) -> None:
        broker = self.connection.broker

        def declare() -> None:
            if passive and queue not in broker.queues:
                self.closed_by_broker(404, f"no queue {queue}")
                return
            broker.declare_queue(queue)
            found = broker.queues[queue]
            answer = SimpleNamespace(
                message_count=len(found.messages), consumer_count=len(found.consumers)
            )
            self.connection.tell(callback, SimpleNamespace(method=answer))

        self._ask(declare)

    def queue_bind(
        self, queue: str, exchange: str, callback: Callable[..., Any], routing_key: str = ""
    ) -> None:
        broker = self.connection.broker

        def bind() -> None:
            if queue in broker.queues:
                broker.bind(queue, exchange)
                self.connection.tell(callback)
            else:
                self.closed_by_broker(404, f"no queue {queue}")

        self._ask(bind)

    def basic_qos(self, prefetch_count: int, callback: Callable[..., Any]) -> None:
        def set_prefetch() -> None:
            self.prefetch = prefetch_count

        self._call(set_prefetch, callback)

    def basic_consume(self, queue: str, callback: Callable[..., Any]) -> None:
        def consume() -> None:
            if queue in self.connection.broker.queues:
                self.connection.broker.queues[queue].consumers.append((self, callback))
            else:
                self.closed_by_broker(404, f"no queue {queue}")

        self.connection.ask(consume)

    def basic_ack(self, tag: int, multiple: bool) -> None:
        assert multiple
        self.connection.ask(lambda: self.connection.broker.acknowledge(self, tag))

    def basic_publish(
        self, exchange: str, routing_key: str, body: bytes, properties: Any, mandatory: bool
    ) -> None:
        assert mandatory
        self.publish(exchange, routing_key, properties, body)

    def publish(self, exchange: str, key: str, properties: Any, body: bytes) -> None:
        self.connection.publishes = True
        broker = self.connection.broker
        self.connection.ask(lambda: broker.publish(self, exchange, key, properties, body))

    def close(self) -> None:
        self.is_open = False
        self.connection.ask(lambda: self.connection.broker.forget_channel(self))
