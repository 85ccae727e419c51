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
from collections.abc import Iterator
from concurrent.futures import CancelledError
from typing import Any, Final

import pika
import pika.exceptions
import structlog

from appliance.broker import topology
from appliance.broker.base import BrokerState
from appliance.broker.link import Link
from appliance.broker.publish.frames import Publishing
from appliance.broker.publish.lanes import Lane, Parcel
from appliance.broker.publish.last_words import Account
from appliance.broker.publish.numbering import Numbering
from appliance.config import Config
from appliance.errors import BrokerError, DeadlineError, RefusedError
from appliance.model.messages import Envelope

#: Unconfirmed requests of one topic, from which on what comes is gathered: a few that come apart
#: don't wait for one another, and under load one envelope is on its way while the next one fills.
_LANE_REQUESTS: Final = 4
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
#: Seconds beyond the publish timeout that a thread waits for the loop to say how it went.
_PATIENCE: Final = 5.0

_APP_ID: Final = "queue-appliance"

_log: Any = structlog.get_logger(__name__)


class Publisher:
    """Publishes on the running event loop; all methods are called there, `state` anywhere."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._link = Link(config, self._opened, self._lost, self._blocked_changed)
        self._channel: Any = None
        self._publishing: Publishing
        self._numbering = Numbering()
        self._account = Account(
            config.data, self._numbering, self._link, lambda: self.state().accepting
        )
        self._lanes: dict[str, Lane] = {}
        self._to_send: dict[str, Lane] = {}
        self._unconfirmed: dict[int, Parcel] = {}
        self._next_tag = 1
        self._window_bytes = 0
        self._held_requests = 0
        self._held_bytes = 0
        self._blocked = False
        self._full = False
        self.refusal = ""
        self._reason: str | None = "not connected yet"
        self._depth: int | None = None
        self._consumers: int | None = None
        self._checked_at: float | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self) -> None:
        """Keep connected, until `stop`."""
        self._loop = asyncio.get_running_loop()
        chores = [
            asyncio.create_task(chore()) for chore in (self._sweep, self._check, self._account.run)
        ]
        try:
            await self._link.run()
        finally:
            self._loop = None
            for chore in chores:
                chore.cancel()
            await asyncio.gather(*chores, return_exceptions=True)

    async def stop(self) -> None:
        """Disconnect; what is unconfirmed stays unanswered, so call it when nothing is."""
        await self._account.close()
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
            full=self._full,
            numbers=self._numbering.entry(),
        )

    def refuse(self, reason: str) -> None:
        """Refuse whatever is posted from now on, for this reason; an empty one ends that."""
        self.refusal = reason

    def post(
        self, topic: str, message_id: str, received_at: str, body: bytes
    ) -> asyncio.Future[None]:
        """Send one message; it may share an envelope with others of its topic.

        The future ends when the broker has it on disk, or with RefusedError or DeadlineError.
        """
        lane, size = self._lane(topic), len(body)
        waiter = self._hold(size)
        parcel = lane.waiting[-1] if lane.waiting else None
        if parcel is None or not parcel.takes(size):
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

    def publish_and_wait(self, envelope: Envelope) -> None:
        """Send an envelope from any other thread; returns when the broker has it on disk.

        Raises RefusedError or DeadlineError, as `post`'s future does.
        """
        loop = self._loop
        if loop is None:
            raise RefusedError("the publisher is not running; nothing was kept")

        async def publish() -> None:
            await self.post_envelope(envelope)

        sent = asyncio.run_coroutine_threadsafe(publish(), loop)
        try:
            sent.result(self._config.publish_timeout + _PATIENCE)
        except (TimeoutError, CancelledError) as error:  # the loop is ending, or far behind
            sent.cancel()
            raise DeadlineError("not confirmed: it may have been kept or not") from error

    def _hold(self, size: int) -> asyncio.Future[None]:
        if self.refusal:
            raise RefusedError(f"{self.refusal}; nothing was kept")
        if self._held_requests and (
            self._held_requests >= _HELD_REQUESTS or self._held_bytes + size > _HELD_BYTES
        ):
            raise RefusedError("too much waits for the broker already; nothing was kept")
        self._held_requests += 1
        self._held_bytes += size
        return asyncio.get_running_loop().create_future()

    def _lane(self, topic: str) -> Lane:
        lane = self._lanes.get(topic)
        if lane is None:
            lane = self._lanes[topic] = Lane(topic)
        return lane

    def _append(self, lane: Lane) -> Parcel:
        parcel = Parcel(lane, time.monotonic() + self._config.publish_timeout)
        lane.waiting.append(parcel)
        return parcel

    def _send_soon(self, lane: Lane) -> None:
        """Send when the requests of this turn of the loop have all been seen."""
        if not self._to_send:
            asyncio.get_running_loop().call_soon(self._send_seen)
        self._to_send[lane.topic] = lane

    def _send_seen(self) -> None:
        """Send what the windows allow, of all topics by one system call."""
        lanes, self._to_send = self._to_send, {}
        frames: list[bytes] = []
        for lane in lanes.values():
            self._send(lane, frames)
        if frames:
            try:
                self._link.send(frames)
            except BrokerError as error:
                self._give_up(str(error))

    def _send(self, lane: Lane, frames: list[bytes]) -> None:
        """Add what the windows allow to `frames`; from now on it counts as sent."""
        while (
            lane.waiting
            and lane.unconfirmed < _LANE_REQUESTS
            and self._channel is not None
            and not self._blocked
            and len(self._unconfirmed) < _WINDOW_ENVELOPES
            and self._window_bytes < _WINDOW_BYTES
        ):
            parcel = lane.waiting.popleft()
            frames += self._frames(parcel)
            parcel.sent = True
            parcel.requests = len(parcel.waiters)
            lane.unconfirmed += parcel.requests
            self._unconfirmed[self._next_tag] = parcel
            self._next_tag += 1
            self._window_bytes += parcel.size

    def _send_all(self) -> None:
        for lane in self._lanes.values():
            self._send_soon(lane)

    def _frames(self, parcel: Parcel) -> Iterator[bytes]:
        envelope = parcel.sealed()
        if not parcel.number:
            parcel.number = self._numbering.give()
        ledger, parcel.told = self._numbering.tell(parcel.number)
        headers: dict[str, str | int] = {
            "received_at": envelope.received_at,
            "count": envelope.count,
            "bytes": envelope.size,
            "ledger": ledger,
        }
        return self._publishing.frames(
            envelope.topic, envelope.kind.value, envelope.id, headers, envelope.body
        )

    def _answered(self, frame: Any) -> None:
        """Take the broker's confirmation or refusal of one envelope or of all up to it."""
        method = frame.method
        error = None
        self._full = isinstance(method, pika.spec.Basic.Nack)
        if self._full:
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
                self._numbering.settle(parcel.number, parcel.told, kept=error is None)
                self._release(parcel, _doubtful() if error and parcel.put_back else error)
        for lane in lanes:
            if lane.waiting:
                self._send_soon(lane)
            elif not lane.unconfirmed:
                self._lanes.pop(lane.topic, None)
        if was_full:
            self._send_all()

    def _release(self, parcel: Parcel, error: BrokerError | None) -> None:
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
        self._publishing = Publishing(
            channel.channel_number, link.frame_max, topology.EXCHANGE, _APP_ID
        )
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
        self._channel, self._reason = None, reason
        self._blocked = self._full = False
        self._depth = self._consumers = self._checked_at = None
        for parcel in reversed(self._unconfirmed.values()):
            if parcel.waiters:
                parcel.put_back = True
                parcel.lane.waiting.appendleft(parcel)
            else:  # past its deadline: nobody was promised anything, so it is not sent again
                self._numbering.settle(parcel.number, [], kept=False)
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
                    parcel = lane.waiting.popleft()
                    if parcel.number:
                        self._numbering.settle(parcel.number, [], kept=False)
                    self._expire(parcel)
                if not lane.waiting and not lane.unconfirmed:
                    self._lanes.pop(lane.topic, None)
            # All of them: one that had to wait in its lane was sent after younger ones of others.
            for parcel in self._unconfirmed.values():
                if parcel.deadline <= now and parcel.waiters:
                    self._expire(parcel)

    def _expire(self, parcel: Parcel) -> None:
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
        """Ask how deep the queue is and who consumes it; either queue gone ends the link."""
        while True:
            await asyncio.sleep(_CHECK)
            channel = self._channel
            if channel is None:
                continue
            try:
                answer = await self._link.call(
                    channel.queue_declare, queue=topology.QUEUE, passive=True
                )
                await self._link.call(channel.queue_declare, queue=topology.DEAD, passive=True)
            except BrokerError as error:
                _log.debug("queue can't be looked at", reason=str(error))
                continue
            if self._channel is channel:
                depth = answer.method.message_count
                if self._depth is not None and depth < self._depth:
                    self._full = False  # it drains; the next message tells
                self._depth = depth
                self._consumers = answer.method.consumer_count
                self._checked_at = time.monotonic()


def _doubtful() -> DeadlineError:
    """Return what a refusal means where an earlier copy may have arrived."""
    return DeadlineError(
        "the queue is full, and the connection broke before: it may have been kept or not; "
        "send it again with the same Idempotency-Key"
    )
