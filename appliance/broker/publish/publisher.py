"""Publishes with confirms: sends what the outbox yields, and tells it what the broker answered."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import CancelledError
from typing import Any, Final

import pika
import pika.exceptions
import structlog

from appliance.broker import shards
from appliance.broker.base import DEAD, EXCHANGE, BrokerState, Waiter
from appliance.broker.link import Link
from appliance.broker.publish import direct, doubt
from appliance.broker.publish.doubt import Doubt
from appliance.broker.publish.frames import Field, FrameWriter
from appliance.broker.publish.last_words import LedgerRecord
from appliance.broker.publish.numbering import Numbering
from appliance.broker.publish.outbox import Outbox
from appliance.broker.publish.queue_age import QueueAge
from appliance.broker.publish.stall import Stall
from appliance.broker.shards import Shard
from appliance.broker.topology import Topology
from appliance.config import Config
from appliance.errors import BrokerError, DeadlineError, RefusedError, TooLargeError
from appliance.machine.allowance import allowance
from appliance.machine.ticks import tick
from appliance.model.contents import MARK
from appliance.model.wire import Envelope, Kind, Message

#: Seconds between two looks for parcels past their deadline, and while there are none: an idle
#: process wakes up seldom.
_SWEEP: Final = 0.05
_SWEEP_IDLE: Final = 0.5
#: Seconds between two looks at the queue's depth and consumers.
_CHECK: Final = 1.0
#: Seconds beyond the publish timeout that a thread waits for the loop's answer.
_PATIENCE: Final = 5.0

_APP_ID: Final = "queue-appliance"
_WHOLE: Final = Shard()

_log: Any = structlog.get_logger(__name__)


class AmqpPublisher:
    """The publisher to a RabbitMQ broker, to the queue of one shard; see `base.Publisher`."""

    def __init__(self, config: Config, shard: Shard = _WHOLE) -> None:
        self._config = config
        self._shard = shard
        #: What each envelope says of its shard; nothing as a rule.
        self._labels = {shards.HEADER: shard.label} if shard.label else {}
        self._link = Link(config, self._opened, self._lost, self._blocked_changed)
        self._topology = Topology(config, shard)
        self._channel: Any = None
        self._frames: FrameWriter
        self._most_envelope = allowance(config).amqp_message
        self._numbering = Numbering()
        self._outbox = Outbox(
            self._numbering,
            config.publish_timeout,
            most_bytes=config.api_bodies_bytes // shard.number,
        )
        #: What was sent, and what became of it.
        self.tally = self._outbox.tally
        self._record = LedgerRecord(
            config.data, self._numbering, self._link, lambda: self.state().accepting, shard
        )
        self._is_sending_soon = False
        self._stall = Stall()
        self._doubt = Doubt()
        self._patience = doubt.LEAVE
        self._is_opening = False
        self._blocked = False
        self._full = False
        #: The reason given to `refuse`; empty while messages are taken.
        self.refusal = ""
        self._reason: str | None = "not connected yet"
        self._depth: int | None = None
        self._consumers: int | None = None
        self._checked_at: float | None = None
        self._queue_age = QueueAge(time.monotonic())
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self) -> None:
        """Stay connected until `stop`."""
        self._loop = asyncio.get_running_loop()
        chores = [
            asyncio.create_task(chore()) for chore in (self._sweep, self._check, self._record.run)
        ]
        try:
            await self._link.run()
        finally:
            self._loop = None
            for chore in chores:
                chore.cancel()
            await asyncio.gather(*chores, return_exceptions=True)

    async def stop(self) -> None:
        """Disconnect. Messages that are not confirmed stay unanswered."""
        self._outbox.abandon()
        await self._record.close()
        await self._link.close()

    def state(self) -> BrokerState:
        """Return the broker's state. Safe in any thread."""
        checked_at, now = self._checked_at, time.monotonic()
        reason = "the broker is blocked by an alarm" if self._blocked else self._reason
        return BrokerState(
            connected=self._channel is not None,
            blocked=self._blocked,
            accepting=self._channel is not None and not self._blocked,
            reason=reason,
            depth=self._depth,
            consumers=self._consumers,
            checked_seconds_ago=None if checked_at is None else now - checked_at,
            full=self._full,
            oldest_seconds=None if checked_at is None else self._queue_age.seconds(now),
            numbers=self._numbering.entry(),
            stalled_seconds=self._stall.seconds,
            stalled=self._stall.reason,
            unsure_seconds=self._doubt.seconds if self._link.has_others else 0.0,
        )

    def refuse(self, reason: str) -> None:
        """Refuse every later message for this reason; an empty reason ends that. Any thread."""
        self.refusal = reason

    def send(self, topic: str, message: Message, waiter: Waiter) -> None:
        """Send one message; it may share an envelope with any others.

        The errors are those of `base.Publisher.send`.
        """
        if self.refusal:
            raise self._refused()
        self._outbox.add(topic, message, waiter)
        if not self._is_sending_soon:
            self._send_soon()

    def post(
        self, topic: str, message: Message, expires_at: str | None = None
    ) -> asyncio.Future[None]:
        """Send one message as `send` does; the future that is returned is its waiter.

        `expires_at` is when it ends, as its meta says too.
        """
        if self.refusal:
            raise self._refused()
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._outbox.add(topic, message, waiter, expires_at)
        if not self._is_sending_soon:
            self._send_soon()
        return waiter

    def post_batch(self, topic: str, messages: Sequence[Message]) -> asyncio.Future[None]:
        """Send a small batch; the errors are those of `send`, the future is its waiter."""
        if self.refusal:
            raise self._refused()
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._outbox.add_batch(topic, messages, waiter)
        if not self._is_sending_soon:
            self._send_soon()
        return waiter

    def post_envelope(self, envelope: Envelope) -> asyncio.Future[None]:
        """Send an envelope as it is; the future and the errors are those of `post`.

        Raises TooLargeError where the broker would not take it: it would close the connection.
        """
        if len(envelope.body) > self._most_envelope:
            raise TooLargeError(
                f"the messages have {len(envelope.body)} bytes when they are written for the "
                f"broker, which takes {self._most_envelope} at once; send fewer in one request"
            )
        if self.refusal:
            raise self._refused()
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._outbox.add_envelope(envelope, waiter)
        self._send_soon()
        return waiter

    def publish_and_wait(self, envelope: Envelope) -> None:
        """Send an envelope from any other thread; return when it is confirmed.

        Raises RefusedError or DeadlineError, as the future of `post` does.
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

    def mark_and_wait(self, deletion_id: str) -> None:
        """Put a deletion's mark into the queue, from any other thread; return when it is confirmed.

        Raises RefusedError where it certainly isn't kept, DeadlineError where it may be.
        """
        loop = self._loop
        if loop is None or not self.state().accepting:
            raise RefusedError(f"{self.state().reason or 'not connected'}; nothing was deleted")
        sending = direct.send(self._link, MARK, [deletion_id.encode()], self._shard.queue)
        sent = asyncio.run_coroutine_threadsafe(sending, loop)
        try:
            sent.result(self._config.publish_timeout)
        except (BrokerError, pika.exceptions.AMQPError, TimeoutError, CancelledError) as error:
            sent.cancel()
            raise DeadlineError("not confirmed: the deletion may have been kept or not") from error

    def _refused(self) -> RefusedError:
        return RefusedError(f"{self.refusal}; nothing was kept")

    def _send_soon(self) -> None:
        """Send when the requests of this turn of the loop have all been seen."""
        if not self._is_sending_soon:
            self._is_sending_soon = True
            asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        """Send what the outbox yields by one system call."""
        self._is_sending_soon = False
        if self._channel is None or self._blocked:
            return
        frames: list[bytes] = []
        for parcel in self._outbox.next():
            envelope = parcel.sealed()
            headers: dict[str, Field] = {
                "received_at": envelope.received_at,
                "count": envelope.count,
                "bytes": envelope.size,
                "ledger": parcel.ledger,
                **self._labels,
            }
            content_type = envelope.content_type
            if content_type is not None and envelope.kind is not Kind.MESSAGE:
                # The AMQP property would say it of the array that holds the messages.
                headers["content_type"], content_type = content_type, None
            if envelope.meta is not None:
                headers["meta"] = envelope.meta
            if envelope.due_at is not None:
                headers["due_at"] = envelope.due_at
            if envelope.expires_at is not None:
                headers["expires_at"] = envelope.expires_at
            if envelope.further_topics:
                headers["CC"] = envelope.further_topics
            frames += self._frames.frames(
                envelope.topic, envelope.kind, envelope.id, headers, envelope.body,
                content_type,
            )  # fmt: skip
        if frames:
            try:
                self._link.send(frames)
            except BrokerError as error:
                self._give_up(str(error))

    def _answered(self, frame: Any) -> None:
        """Take the broker's confirmation or refusal of one envelope or of all up to it."""
        method = frame.method
        self._full = isinstance(method, pika.spec.Basic.Nack)
        settle = self._outbox.refuse if self._full else self._outbox.confirm
        # The next envelope goes out before the answers are written: the broker then works while
        # the API does.
        settle(method.delivery_tag, multiple=method.multiple, room_made=self._send)

    async def _opened(self, link: Link) -> None:
        channel: Any = link.channel
        self._is_opening = True
        channel.add_on_return_callback(self._returned)
        await self._topology.declare(link)
        await link.call(channel.confirm_delivery, self._on_answer(channel))
        self._frames = FrameWriter(
            channel.channel_number, link.frame_max, EXCHANGE, _APP_ID, link.signs_as
        )
        self._channel, self._reason = channel, None
        self._is_opening = False
        self._stall.opened()
        self._send_soon()

    def _returned(self, *_: Any) -> None:
        self._topology.note_gone()
        self._give_up("no queue takes what is published; making it again")

    def _on_answer(self, channel: Any) -> Any:
        """Ignore the answers of a lost channel: its tags are not ours any more."""

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
        if self._is_opening:
            self._stall.opening_failed()
        elif self._channel is None:
            self._stall.away()
        self._is_opening = False
        self._stall.look(0)
        self._channel, self._reason = None, reason
        self._blocked = self._full = False
        self._depth = self._consumers = self._checked_at = None
        self._outbox.lose()

    def _blocked_changed(self, blocked: bool) -> None:
        self._blocked = blocked
        if blocked:
            _log.warning("broker blocks publishers")
        else:
            _log.info("broker unblocks publishers")
            self._send_soon()

    async def _sweep(self) -> None:
        idle = min(_SWEEP_IDLE, self._config.publish_timeout / 2)
        while True:
            if self._outbox.held_requests:
                await asyncio.sleep(_SWEEP)
            else:
                await tick(idle)
            self._outbox.expire(self.state().reason or "it is slow")
            self._stall.look(0 if self._blocked else self._outbox.oldest())
            if self._link.has_others:
                self._heed_doubt()

    def _heed_doubt(self) -> None:
        """Note how long the node has answered nothing, and leave it for another one."""
        tally = self.tally
        waiting = bool(self._outbox.held_requests) and not self._blocked
        self._doubt.look(tally.confirmed + tally.nacked, waiting=waiting)
        if not self._doubt.seconds:
            self._patience = doubt.LEAVE
        elif self._channel is not None and waiting and self._stall.seconds >= self._patience:
            self._give_up(f"broker: no confirm within {self._patience:.0f} s from this node")
            self._patience = doubt.LEAVE_NEXT

    async def _check(self) -> None:
        """Read how deep the queue is and who consumes it; either queue gone ends the link.

        A node that does not reach the queue's leader says that nobody consumes. Where the exchange
        of the shards is gone, which ends the link too, another number of them is in force.
        """
        in_force = shards.exchange(self._shard.number)
        while True:
            await tick(_CHECK)
            channel = self._channel
            if channel is None:
                continue
            try:
                answer, _ = await asyncio.gather(
                    self._link.call(channel.queue_declare, queue=self._shard.queue, passive=True),
                    self._link.call(channel.queue_declare, queue=DEAD, passive=True),
                )
                if not self._shard.is_whole:
                    await self._link.call(channel.exchange_declare, exchange=in_force, passive=True)
            except BrokerError as error:
                _log.debug("queue not readable", reason=str(error))
                continue
            if self._channel is channel:
                depth = answer.method.message_count
                if self._depth is not None and depth < self._depth:
                    self._full = False  # it drains; the next message shows whether it has room
                self._depth = depth
                self._queue_age.note(time.monotonic(), depth, self.tally.confirmed)
                self._consumers = answer.method.consumer_count
                if self._consumers and not self._outbox.held_requests:
                    self._doubt.reached()
                self._checked_at = time.monotonic()
