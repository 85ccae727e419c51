"""A connection and a channel on the running event loop, opened again for as long as wanted.

pika speaks in callbacks; here they become awaitable. Whatever ends the channel or the connection
ends the link's turn: the owner is told, the link backs off and comes again.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final

import pika.exceptions
import structlog
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.adapters.utils import io_services_utils
from pika.channel import Channel

from appliance.broker.connection import parameters
from appliance.config import Config
from appliance.errors import BrokerError

#: Seconds between attempts: doubled from the first to the last, and jittered.
_BACKOFF_FIRST: Final = 0.1
_BACKOFF_LAST: Final = 1.0
#: Bytes that are joined for one system call.
_JOIN_BYTES: Final = 128 * 1024
#: Bytes that are read by one system call. Less than what malloc would map and unmap each time.
_RECEIVE_BYTES: Final = 64 * 1024
#: Seconds to wait for the broker's answer to anything but a publish.
_CALL_TIMEOUT: Final = 10.0

_log: Any = structlog.get_logger(__name__)


def _receive_more() -> None:
    """Let pika read much at a time: it reads 4 KiB, and copies what it has for each of them."""
    transport: Any = io_services_utils._AsyncTransportBase  # noqa: SLF001
    transport._MAX_RECV_BYTES = _RECEIVE_BYTES  # noqa: SLF001


class _Connection(AsyncioConnection):  # type: ignore[misc]  # pika has no types
    """pika's connection, which can send many frames by one system call."""

    def send_together(self, frames: list[bytes]) -> None:
        """Send frames that are written already; large ones alone, without copying them."""
        if sum(map(len, frames)) <= _JOIN_BYTES:
            frames = [b"".join(frames)]
        self._output_marshaled_frames(frames)


class Link:
    """Keeps one connection and channel open.

    `on_open(link)` prepares a fresh channel and may raise BrokerError; when it has returned the
    link is up. `on_lost(reason)` is called once for every channel that was opened, whichever way
    it ended. `on_blocked(bool)` tells of the broker's alarms. A `quiet` one leaves it to its owner
    to log what matters.
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
        _receive_more()
        self._config = config
        self._on_open = on_open
        self._on_lost = on_lost
        self._on_blocked = on_blocked
        self._quiet = quiet
        self._connection: Any = None
        self._lost: asyncio.Future[str] | None = None
        self._stopping = asyncio.Event()
        self.channel: Channel | None = None

    async def run(self) -> None:
        """Connect, and connect again, until `stop`."""
        delay = _BACKOFF_FIRST
        told = False
        while not self._stopping.is_set():
            self._lost = asyncio.get_running_loop().create_future()
            try:
                await self._connect()
                await self._on_open(self)
                if not self._quiet:
                    _log.info("broker connected")
                delay, told = _BACKOFF_FIRST, False
                reason = await self._lost
            except BrokerError as error:
                reason = str(error)
            except pika.exceptions.AMQPError as error:  # a channel that closed just before a call
                reason = _describe(error)
            self._on_lost(reason)
            await self._disconnect()
            if self._stopping.is_set():
                return
            if not told and not self._quiet:  # once for every loss, not for every attempt
                _log.warning("no broker, trying again", reason=reason)
                told = True
            with contextlib.suppress(TimeoutError):
                jittered = delay * random.uniform(0.5, 1)  # noqa: S311  # no secret
                await asyncio.wait_for(self._stopping.wait(), jittered)
            delay = min(delay * 2, _BACKOFF_LAST)

    def drop(self, reason: str) -> None:
        """End this connection; a new one is opened."""
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(reason)

    def stop(self) -> None:
        """End the connection and `run`."""
        self._stopping.set()
        self.drop("stopped")

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

    def send(self, frames: list[bytes]) -> None:
        """Send frames that are written already. Raises BrokerError where the channel is closed."""
        if self.channel is None or not self.channel.is_open:
            raise BrokerError("broker: the channel is closed")
        self._connection.send_together(frames)

    async def open_channel(self) -> Channel:
        """Open one more channel, beside the link's own."""
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
        await asyncio.wait(
            [answer, self._lost], timeout=_CALL_TIMEOUT, return_when=asyncio.FIRST_COMPLETED
        )
        if answer.done():
            return answer.result()
        if self._lost.done():
            raise BrokerError(self._lost.result())
        raise BrokerError(f"broker: no answer within {_CALL_TIMEOUT:.0f} s")

    async def _connect(self) -> None:
        opened: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def failed(_: Any, error: BaseException) -> None:
            if not opened.done():
                opened.set_exception(BrokerError(f"broker: {_describe(error)}"))

        def closed(connection: Any, error: BaseException) -> None:
            # One that did not close in time was left behind, and is not this link's any more.
            if connection is self._connection:
                self.drop(_describe(error))

        def channel_closed(channel: Any, error: BaseException) -> None:
            if channel is self.channel:
                self.drop(_describe(error))

        def blocked(connection: Any, now: bool) -> None:
            if connection is self._connection:
                self._on_blocked(now)

        self._connection = connection = _Connection(
            parameters(self._config),
            on_open_callback=opened.set_result,
            on_open_error_callback=failed,
            on_close_callback=closed,
            custom_ioloop=asyncio.get_running_loop(),
        )
        await self.wait(opened)
        connection.add_on_connection_blocked_callback(lambda c, _: blocked(c, True))
        connection.add_on_connection_unblocked_callback(lambda c, _: blocked(c, False))
        self.channel = await self.open_channel()
        self.channel.add_on_close_callback(channel_closed)

    async def _disconnect(self) -> None:
        connection, self._connection, self.channel = self._connection, None, None
        if connection is None or connection.is_closed:
            return
        closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(*_: Any) -> None:
            if not closed.done():
                closed.set_result(None)

        connection.add_on_close_callback(done)
        connection.add_on_open_error_callback(done)
        if not connection.is_closing:
            connection.close()
        await asyncio.wait([closed], timeout=1)


def _describe(error: BaseException) -> str:
    """Say in a few words why pika gave up; it nests the cause, each class in its own way."""
    cause = error
    while True:
        inner = [*getattr(cause, "exceptions", ()), getattr(cause, "exception", None), *cause.args]
        nested = [each for each in inner if isinstance(each, BaseException)]
        if not nested:
            return f"{type(cause).__name__}: {cause}"
        cause = nested[-1]
