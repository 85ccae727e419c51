"""A connection and a channel on the running event loop, opened again for as long as wanted.

pika speaks in callbacks; here they become awaitable. When the channel or the connection ends, for
whatever reason, the owner is told, and after a pause the link connects again, to the next address.
One of several nodes is left when it says nothing for seconds; a broker alone has only heartbeats.
"""

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

import pika
import pika.exceptions
import structlog
from pika.channel import Channel

from appliance.broker import pika_patches, silence
from appliance.broker.broker_addresses import behind, is_node, parameters, resolve
from appliance.broker.pika_patches import FrameConnection
from appliance.broker.silence import Silence
from appliance.config import Config
from appliance.errors import BrokerError
from appliance.machine.complaint import Complaint

#: Seconds between attempts: doubled from the first to the last, and jittered.
_BACKOFF_FIRST: Final = 0.1
_BACKOFF_LAST: Final = 1.0
#: Seconds that a connection has held, if the next attempt after it is a first one. A broker with a
#: dead queue takes connections and ends each at once: many a second, in its log and in ours.
_STEADY: Final = 5.0
#: Seconds for which a broker that was not reached yet is one that starts, which is no fault.
_STARTING: Final = 30.0
#: Seconds to wait for the broker's answer to anything but a publish.
_CALL_TIMEOUT: Final = 10.0
#: The same, of one of several nodes: another one may be better.
_NODE_CALL_TIMEOUT: Final = 5.0
#: Seconds between two looks whether a node still says something.
_LISTEN: Final = 0.4
#: Seconds for the answer to the end of a connection, the same in a cluster, and for the whole end
#: of a link.
_DISCONNECT_TIMEOUT: Final = 1.0
_NODE_DISCONNECT_TIMEOUT: Final = 0.3
_CLOSE_TIMEOUT: Final = 2.0

_log: Any = structlog.get_logger(__name__)


class Link:
    """Keeps one connection and one channel open.

    `on_open(link)` prepares a fresh channel and may raise BrokerError; when it has returned the
    link is up. `on_lost(reason)` is called once for every attempt to connect, when the channel or
    the attempt has ended. `on_blocked(bool)` is called when an alarm of the broker's begins and
    ends. With `quiet`, the owner logs what matters.
    """

    def __init__(
        self,
        config: Config,
        on_open: Callable[["Link"], Awaitable[None]],
        on_lost: Callable[[str], None],
        on_blocked: Callable[[bool], None] = lambda _: None,
        *,
        quiet: bool = False,
    ) -> None:
        pika_patches.receive_more()
        self._config = config
        self._on_open = on_open
        self._on_lost = on_lost
        self._on_blocked = on_blocked
        self._quiet = quiet
        self._addresses: deque[pika.connection.Parameters] = deque()
        self._last_address: tuple[str, int] | None = None
        #: This connection is to one of several nodes: another one may be better.
        self.has_others = False
        self._is_blocked = False
        self._is_silent = False
        self._connection: Any = None
        self._lost: asyncio.Future[str] | None = None
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._ended.set()
        self._waiting = Complaint(_log, "waiting for the broker", "broker connected", level="info")
        self._unavailable = Complaint(_log, "broker unavailable", "broker connected")
        self._starting_until = 0.0
        self.channel: Channel | None = None

    async def run(self) -> None:
        """Connect, and connect again, until `stop`."""
        self._ended.clear()
        self._starting_until = time.monotonic() + _STARTING
        try:
            await self._keep_connected()
        finally:
            self._ended.set()

    async def _keep_connected(self) -> None:
        delay = _BACKOFF_FIRST
        while not self._stopping.is_set():
            self._lost = asyncio.get_running_loop().create_future()
            listening: asyncio.Task[None] | None = None
            try:
                await self._connect()
                if self.has_others:
                    listening = asyncio.create_task(self._listen())
                await self._on_open(self)
                self._log_connected()
                opened_at = time.monotonic()
                reason = await self._lost
                if time.monotonic() - opened_at >= _STEADY:
                    delay = _BACKOFF_FIRST
            except BrokerError as error:
                reason = str(error)
            except pika.exceptions.AMQPError as error:  # a channel that closed just before a call
                reason = _describe(error)
            if listening is not None:
                listening.cancel()
            self._on_lost(reason)
            await self._disconnect()
            if self._stopping.is_set():
                return
            self._log_lost(reason)
            with contextlib.suppress(TimeoutError):
                jittered = delay * random.uniform(0.5, 1)  # noqa: S311  # no secret
                await asyncio.wait_for(self._stopping.wait(), jittered)
            delay = min(delay * 2, _BACKOFF_LAST)

    def _log_connected(self) -> None:
        if self._quiet:
            return
        complaint = self._unavailable if self._unavailable.is_open else self._waiting
        if complaint.is_open:
            complaint.works()
        else:
            _log.info("broker connected")
        self._starting_until = 0.0

    def _log_lost(self, reason: str) -> None:
        """Log a loss once, not every attempt; a broker that starts together with us is no loss."""
        if not self._quiet:
            starting = time.monotonic() < self._starting_until
            (self._waiting if starting else self._unavailable).fails(reason=reason)

    def drop(self, reason: str) -> None:
        """End this connection; a new one is opened."""
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(reason)

    def stop(self) -> None:
        """End the connection and `run`."""
        self._stopping.set()
        self.drop("stopped")

    async def close(self) -> None:
        """End as `stop` does; return when the broker knows, or after a short time."""
        self.stop()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), _CLOSE_TIMEOUT)

    async def call(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call one of the channel's methods that take a callback; return what it is called with.

        Raises BrokerError where the channel is lost before the answer or none comes in time.
        """
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def answered(result: Any = None) -> None:
            if not answer.done():
                answer.set_result(result)

        try:
            method(*args, **kwargs, callback=answered)
        except (pika.exceptions.AMQPError, ValueError) as error:
            raise BrokerError(f"broker: {error}") from error
        return await self.wait(answer)

    @property
    def frame_max(self) -> int:
        """The most bytes of a frame, as the two sides agreed on."""
        return int(self._connection.params.frame_max)

    @property
    def signs_as(self) -> str | None:
        """The user that our messages name as theirs; None where they name none.

        Where nobody asks for it, an outside broker is spared it: RabbitMQ refuses a message whose
        user it knows by another name, and so a program that republishes our messages would fail.
        """
        if self._config.broker_urls and not self._config.broker_users:
            return None
        return str(self._connection.params.credentials.username)

    def send(self, frames: list[bytes]) -> None:
        """Send frames that are written already. Raises BrokerError where the channel is closed."""
        if self.channel is None or not self.channel.is_open:
            raise BrokerError("broker: the channel is closed")
        self._connection.send_together(frames)

    async def open_channel(self) -> Channel:
        """Open one more channel, beside the link's own. Raises BrokerError."""
        if self._connection is None:
            raise BrokerError("broker: not connected")
        opened: asyncio.Future[Channel] = asyncio.get_running_loop().create_future()
        try:
            self._connection.channel(on_open_callback=opened.set_result)
        except pika.exceptions.AMQPError as error:
            raise BrokerError(f"broker: {error}") from error
        channel: Channel = await self.wait(opened)
        return channel

    async def wait(self, answer: asyncio.Future[Any]) -> Any:
        """Await `answer`, the loss of the link or the deadline, whichever comes first."""
        if self._lost is None:
            raise BrokerError("broker: not connected")
        patience = _NODE_CALL_TIMEOUT if self.has_others else _CALL_TIMEOUT
        await asyncio.wait(
            [answer, self._lost], timeout=patience, return_when=asyncio.FIRST_COMPLETED
        )
        if answer.done():
            return answer.result()
        if self._lost.done():
            raise BrokerError(self._lost.result())
        raise BrokerError(f"broker: no answer within {patience:.0f} s")

    async def pause(self, seconds: float) -> None:
        """Sleep. Raises BrokerError as soon as the link is lost."""
        if self._lost is None:
            raise BrokerError("broker: not connected")
        await asyncio.wait([self._lost], timeout=seconds)
        if self._lost.done():
            raise BrokerError(self._lost.result())

    async def _connect(self) -> None:
        def channel_closed(channel: Any, error: BaseException) -> None:
            if channel is self.channel:
                self.drop(_describe(error))

        def blocked(connection: Any, now: bool) -> None:
            if connection is self._connection:
                self._is_blocked = now
                self._on_blocked(now)

        self._is_blocked = self._is_silent = False
        address = await self._next_address()
        self.has_others = is_node(address)
        connection = await self._open_connection(address)
        connection.add_on_connection_blocked_callback(lambda c, _: blocked(c, True))
        connection.add_on_connection_unblocked_callback(lambda c, _: blocked(c, False))
        self.channel = await self.open_channel()
        self.channel.add_on_close_callback(channel_closed)

    async def _next_address(self) -> pika.connection.Parameters:
        if not self._addresses:
            looking = asyncio.ensure_future(resolve(parameters(self._config)))
            try:
                self._addresses.extend(behind(await self.wait(looking), self._last_address))
            finally:
                looking.cancel()
        address = self._addresses.popleft()
        self._last_address = address.host, address.port
        return address

    async def _open_connection(self, address: pika.connection.Parameters) -> Any:
        """Connect to `address`, and end the handshake. Raises BrokerError."""
        opened: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def open_now(connection: Any) -> None:
            if not opened.done():
                opened.set_result(connection)

        def failed(_: Any, error: BaseException) -> None:
            if not opened.done():
                opened.set_exception(BrokerError(f"broker: {_describe(error)}"))

        def closed(connection: Any, error: BaseException) -> None:
            # One that did not close in time was left behind, and is not this link's any more.
            if connection is self._connection:
                self.drop(_describe(error))

        self._connection = FrameConnection(
            address,
            on_open_callback=open_now,
            on_open_error_callback=failed,
            on_close_callback=closed,
            custom_ioloop=asyncio.get_running_loop(),
        )
        try:
            return await self.wait(opened)
        finally:
            opened.cancel()  # nobody asks any more how a handshake ends that was given up

    async def _listen(self) -> None:
        """End the link when its node has said nothing for too long."""
        connection, silent, asked = self._connection, Silence(), False
        while True:
            await asyncio.sleep(_LISTEN)
            seconds = silent.look(connection.bytes_received)
            if silence.is_worth_leaving(seconds, blocked=self._is_blocked):
                self._is_silent = True
                host, port = self._last_address or ("", 0)
                self.drop(f"broker: {host}:{port} has said nothing for {seconds:.1f} s")
                return
            if not silence.is_worth_asking(seconds):
                asked = False
            elif not asked and self.channel is not None and self.channel.is_open:
                # Any broker answers this at once, and it changes nothing.
                asked = True
                self.channel.flow(True, callback=lambda _: None)

    async def _disconnect(self) -> None:
        connection, self._connection, self.channel = self._connection, None, None
        if connection is None or connection.is_closed:
            return
        if self._is_silent:
            connection.leave()
            return
        closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(*_: Any) -> None:
            if not closed.done():
                closed.set_result(None)

        connection.add_on_close_callback(done)
        connection.add_on_open_error_callback(done)
        if not connection.is_closing:
            connection.close_in_order()
        patience = _NODE_DISCONNECT_TIMEOUT if self.has_others else _DISCONNECT_TIMEOUT
        await asyncio.wait([closed], timeout=patience)
        if self.has_others and not closed.done():
            connection.leave()


def _describe(error: BaseException) -> str:
    """Return in a few words why pika gave up; each of its classes nests the cause differently."""
    cause = error
    while True:
        inner = [*getattr(cause, "exceptions", ()), getattr(cause, "exception", None), *cause.args]
        nested = [each for each in inner if isinstance(each, BaseException)]
        if not nested:
            return f"{type(cause).__name__}: {cause}"
        cause = nested[-1]
