"""Publish with confirms, many requests to an envelope where they wait anyway.

Each topic is a lane. What the event loop finds of a topic in one turn goes out at the turn's end in
one envelope: alone, when little comes. When a few requests of the lane are unconfirmed already,
what comes is gathered into the next one: it would have had to wait for the broker's disk all the
same, and the broker and the worker then pay once for many.

Nothing is refused because a connection broke: what was unconfirmed is sent again, in the same
order, as soon as there is a new one. That is harmless, since a message that is stored already is
not stored again. Only the deadline refuses: DeadlineError where a message may have reached the
broker, RefusedError where it certainly has not.
"""

import asyncio
import time
from collections import deque
from typing import Any, Final

import pika
import pika.exceptions
import structlog

from appliance.broker import topology
from appliance.broker.link import Link
from appliance.broker.state import BrokerState
from appliance.config import Config
from appliance.errors import BrokerError, DeadlineError, RefusedError
from appliance.messages import Envelope, pack, single

#: Unconfirmed requests of one topic, from which on what comes is gathered: a few that come apart
#: don't wait for one another, and under load one envelope is on its way while the next one fills.
_LANE_REQUESTS: Final = 4
#: Messages and bytes of a gathered envelope: beyond, the next one is begun.
_GATHER_MESSAGES: Final = 512
_GATHER_BYTES: Final = 256 * 1024
#: Unconfirmed envelopes and bytes over all topics.
_WINDOW_ENVELOPES: Final = 512
_WINDOW_BYTES: Final = 32 * 2**20
#: Requests and bytes that may wait here in all: beyond, what comes is refused at once.
_HELD_REQUESTS: Final = 50_000
_HELD_BYTES: Final = 64 * 2**20
#: Seconds between two looks for what is past its deadline.
_SWEEP: Final = 0.05
#: Seconds between two looks at the queue's depth and consumers.
_CHECK: Final = 1.0

_PERSISTENT: Final = 2
_APP_ID: Final = "queue-appliance"

_log: Any = structlog.get_logger(__name__)


class _Parcel:
    """An envelope being gathered, or one that is made and on its way."""

    __slots__ = ("deadline", "envelope", "items", "lane", "requests", "sent", "size", "waiters")

    def __init__(self, lane: "_Lane", deadline: float) -> None:
        self.lane = lane
        self.deadline = deadline
        self.items: list[tuple[str, str, bytes]] = []
        self.envelope: Envelope | None = None
        self.size = 0
        self.requests = 0  # counted when it was sent
        self.sent = False
        self.waiters: list[asyncio.Future[None]] = []

    def sealed(self) -> Envelope:
        """Return the envelope; nothing can be added any more."""
        if self.envelope is None:
            topic, items = self.lane.topic, self.items
            self.envelope = (
                single(topic, *items[0]) if len(items) == 1 else pack(topic, items, self.size)
            )
            self.items = []
        return self.envelope

    def finish(self, error: BrokerError | None = None) -> None:
        """Answer everyone who waits for this parcel."""
        for waiter in self.waiters:
            if not waiter.done():
                if error is None:
                    waiter.set_result(None)
                else:
                    waiter.set_exception(error)
        self.waiters = []


class _Lane:
    """One topic: what waits, in order, and how many requests are unconfirmed."""

    __slots__ = ("topic", "unconfirmed", "waiting")

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.unconfirmed = 0
        self.waiting: deque[_Parcel] = deque()


class Publisher:
    """Publishes on the running event loop; all methods are called there, `state` anywhere."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._link = Link(config, self._opened, self._lost, self._blocked_changed)
        self._channel: Any = None
        self._lanes: dict[str, _Lane] = {}
        self._to_send: dict[str, _Lane] = {}
        self._unconfirmed: dict[int, _Parcel] = {}
        self._next_tag = 1
        self._window_bytes = 0
        self._held_requests = 0
        self._held_bytes = 0
        self._blocked = False
        self._reason: str | None = "not connected yet"
        self._depth: int | None = None
        self._consumers: int | None = None
        self._checked_at: float | None = None

    async def run(self) -> None:
        """Keep connected, until `stop`."""
        chores = [asyncio.create_task(self._sweep()), asyncio.create_task(self._check())]
        try:
            await self._link.run()
        finally:
            for chore in chores:
                chore.cancel()
            await asyncio.gather(*chores, return_exceptions=True)

    def stop(self) -> None:
        """Disconnect; what is unconfirmed stays unanswered, so call it when nothing is."""
        self._link.stop()

    def state(self) -> BrokerState:
        """Return what is known of the broker now."""
        checked_at = self._checked_at
        reason = "the broker is blocked by an alarm" if self._blocked else self._reason
        return BrokerState(
            connected=self._channel is not None,
            blocked=self._blocked,
            accepting=self._channel is not None and not self._blocked,
            reason=reason,
            depth=self._depth,
            consumers=self._consumers,
            checked_seconds_ago=None if checked_at is None else time.monotonic() - checked_at,
        )

    def post(
        self, topic: str, message_id: str, received_at: str, body: bytes
    ) -> asyncio.Future[None]:
        """Send one message; it may share an envelope with others of its topic.

        The future ends when the broker has it on disk, or with RefusedError or DeadlineError.
        """
        lane, size = self._lane(topic), len(body)
        waiter = self._hold(size)
        parcel = lane.waiting[-1] if lane.waiting else None
        if (
            parcel is None
            or parcel.envelope is not None
            or len(parcel.items) >= _GATHER_MESSAGES
            or parcel.size + size > _GATHER_BYTES
        ):
            parcel = self._append(lane)
        parcel.items.append((message_id, received_at, body))
        parcel.size += size
        parcel.waiters.append(waiter)
        self._send_soon(lane)
        return waiter

    def post_envelope(self, envelope: Envelope) -> asyncio.Future[None]:
        """Send an envelope as it is; the future is as `post`'s."""
        lane = self._lane(envelope.topic)
        waiter = self._hold(len(envelope.body))
        parcel = self._append(lane)
        parcel.envelope = envelope
        parcel.size = len(envelope.body)
        parcel.waiters.append(waiter)
        self._send_soon(lane)
        return waiter

    def _hold(self, size: int) -> asyncio.Future[None]:
        if self._held_requests and (
            self._held_requests >= _HELD_REQUESTS or self._held_bytes + size > _HELD_BYTES
        ):
            raise RefusedError("too much waits for the broker already; nothing was kept")
        self._held_requests += 1
        self._held_bytes += size
        return asyncio.get_running_loop().create_future()

    def _lane(self, topic: str) -> _Lane:
        lane = self._lanes.get(topic)
        if lane is None:
            lane = self._lanes[topic] = _Lane(topic)
        return lane

    def _append(self, lane: _Lane) -> _Parcel:
        parcel = _Parcel(lane, time.monotonic() + self._config.publish_timeout)
        lane.waiting.append(parcel)
        return parcel

    def _send_soon(self, lane: _Lane) -> None:
        """Send when the requests of this turn of the loop have all been seen."""
        if not self._to_send:
            asyncio.get_running_loop().call_soon(self._send_seen)
        self._to_send[lane.topic] = lane

    def _send_seen(self) -> None:
        lanes, self._to_send = self._to_send, {}
        for lane in lanes.values():
            self._send(lane)

    def _send(self, lane: _Lane) -> None:
        """Publish what the windows allow."""
        while (
            lane.waiting
            and lane.unconfirmed < _LANE_REQUESTS
            and self._channel is not None
            and not self._blocked
            and len(self._unconfirmed) < _WINDOW_ENVELOPES
            and self._window_bytes < _WINDOW_BYTES
        ):
            parcel = lane.waiting.popleft()
            try:
                self._publish(parcel)
            except pika.exceptions.AMQPError as error:
                lane.waiting.appendleft(parcel)
                self._give_up(str(error) or "the channel is closed")
                return
            parcel.sent = True
            parcel.requests = len(parcel.waiters)
            lane.unconfirmed += parcel.requests
            self._unconfirmed[self._next_tag] = parcel
            self._next_tag += 1
            self._window_bytes += parcel.size

    def _send_all(self) -> None:
        for lane in list(self._lanes.values()):
            self._send(lane)

    def _publish(self, parcel: _Parcel) -> None:
        envelope = parcel.sealed()
        self._channel.basic_publish(
            topology.EXCHANGE,
            envelope.topic,
            envelope.body,
            pika.BasicProperties(
                delivery_mode=_PERSISTENT,
                app_id=_APP_ID,
                type=envelope.kind.value,
                message_id=envelope.id,
                headers={
                    "received_at": envelope.received_at,
                    "count": envelope.count,
                    "bytes": envelope.size,
                },
            ),
            mandatory=True,
        )

    def _answered(self, frame: Any) -> None:
        """Take the broker's confirmation or refusal of one envelope or of all up to it."""
        method = frame.method
        error = None
        if isinstance(method, pika.spec.Basic.Nack):
            error = RefusedError("the queue is full; nothing was kept")
        was_full = (
            len(self._unconfirmed) >= _WINDOW_ENVELOPES or self._window_bytes >= _WINDOW_BYTES
        )
        if method.multiple:
            tags = [tag for tag in self._unconfirmed if tag <= method.delivery_tag]
        else:
            tags = [method.delivery_tag]
        lanes = []
        for tag in tags:
            parcel = self._unconfirmed.pop(tag, None)
            if parcel is not None:
                self._window_bytes -= parcel.size
                parcel.lane.unconfirmed -= parcel.requests
                lanes.append(parcel.lane)
                self._release(parcel, error)
        for lane in lanes:
            self._send(lane)
            if not lane.waiting and not lane.unconfirmed:
                self._lanes.pop(lane.topic, None)
        if was_full:
            self._send_all()

    def _release(self, parcel: _Parcel, error: BrokerError | None) -> None:
        """Answer a parcel's waiters, and count what is held no more."""
        if parcel.waiters:  # else it was past its deadline and is counted already
            self._held_requests -= len(parcel.waiters)
            self._held_bytes -= parcel.size
            parcel.finish(error)

    async def _opened(self, link: Link) -> None:
        channel: Any = link.channel
        channel.add_on_return_callback(
            lambda *_: self._give_up("no queue takes what is published; making it again")
        )
        await topology.declare(link, self._config)
        await link.call(channel.confirm_delivery, self._on_answer(channel))
        self._next_tag = 1
        self._channel, self._reason = channel, None
        self._send_all()

    def _on_answer(self, channel: Any) -> Any:
        """Ignore what a lost channel still says: its tags are not ours any more."""

        def answered(frame: Any) -> None:
            if self._channel is channel:
                self._answered(frame)

        return answered

    def _give_up(self, reason: str) -> None:
        """End the link, and heed nothing more from its channel.

        An unroutable message is returned and then *confirmed*, perhaps in the same read.
        """
        self._lost(reason)
        self._link.drop(reason)

    def _lost(self, reason: str) -> None:
        """Put what was unconfirmed back, in front and in order."""
        self._channel, self._reason, self._blocked = None, reason, False
        self._depth = self._consumers = self._checked_at = None
        for parcel in reversed(self._unconfirmed.values()):
            if parcel.waiters:
                parcel.lane.waiting.appendleft(parcel)
        self._unconfirmed.clear()
        self._window_bytes = 0
        for topic, lane in list(self._lanes.items()):
            lane.unconfirmed = 0
            if not lane.waiting:
                del self._lanes[topic]

    def _blocked_changed(self, blocked: bool) -> None:
        _log.warning("broker blocks publishers" if blocked else "broker takes messages again")
        self._blocked = blocked
        if not blocked:
            self._send_all()

    async def _sweep(self) -> None:
        """Answer what is past its deadline."""
        while True:
            await asyncio.sleep(_SWEEP)
            now = time.monotonic()
            for lane in list(self._lanes.values()):
                while lane.waiting and lane.waiting[0].deadline <= now:
                    self._expire(lane.waiting.popleft())
                if not lane.waiting and not lane.unconfirmed:
                    self._lanes.pop(lane.topic, None)
            # All of them: one that had to wait in its lane was sent after younger ones of others.
            for parcel in self._unconfirmed.values():
                if parcel.deadline <= now and parcel.waiters:
                    self._expire(parcel)

    def _expire(self, parcel: _Parcel) -> None:
        after = f"within {self._config.publish_timeout:g} s"
        if parcel.sent:
            error: BrokerError = DeadlineError(
                f"not confirmed {after}: it may have been kept or not; "
                "send it again with the same Idempotency-Key"
            )
        else:
            error = RefusedError(
                f"the broker took nothing {after} ({self.state().reason or 'it is slow'}); "
                "nothing was kept"
            )
        self._release(parcel, error)

    async def _check(self) -> None:
        """Ask how deep the queue is and who consumes it; a queue that is gone ends the link."""
        while True:
            await asyncio.sleep(_CHECK)
            channel = self._channel
            if channel is None:
                continue
            try:
                answer = await self._link.call(
                    channel.queue_declare, queue=topology.QUEUE, passive=True
                )
            except BrokerError as error:
                _log.debug("queue can't be looked at", reason=str(error))
                continue
            if self._channel is channel:
                self._depth = answer.method.message_count
                self._consumers = answer.method.consumer_count
                self._checked_at = time.monotonic()
