"""A connection and a channel on the running event loop, opened again for as long as wanted.

pika speaks in callbacks; here they become awaitable. When the channel or the connection ends, for
whatever reason, the owner is told, and after a pause the link connects again, to the next address.
"""

import asyncio
import contextlib
import copy
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

import pika
import pika.exceptions
import structlog
from pika.channel import Channel

from appliance import credentials
from appliance.broker import pika_patches
from appliance.broker.base import USER
from appliance.broker.pika_patches import FrameConnection
from appliance.config import Config
from appliance.errors import BrokerError
from appliance.machine import names
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
#: Seconds. A broker that hangs is noticed within two of them; SIGSTOP of a few seconds is not.
_HEARTBEAT: Final = 10
#: Seconds for each step of connecting.
_CONNECT_TIMEOUT: Final = 5
#: Seconds for the broker's answer to the end of a connection, and for the whole end of a link.
_DISCONNECT_TIMEOUT: Final = 1.0
_CLOSE_TIMEOUT: Final = 2.0

_log: Any = structlog.get_logger(__name__)


def parameters(config: Config) -> list[pika.connection.Parameters]:
    """Return how to connect to each of the broker's addresses, in the order of the settings.

    Several addresses are the nodes of one cluster. Raises ConfigError where our own broker's
    password can't be read.
    """
    each: list[pika.connection.Parameters] = [pika.URLParameters(url) for url in config.broker_urls]
    if not each:
        password = credentials.broker_password(config)
        host, port = config.amqp
        identity = pika.PlainCredentials(USER, password)
        here = names.without_lookup(host)
        each = [pika.ConnectionParameters(host=here, port=port, credentials=identity)]
    for one in each:
        one.heartbeat = _HEARTBEAT
        one.socket_timeout = _CONNECT_TIMEOUT
        one.stack_timeout = 2 * _CONNECT_TIMEOUT
        one.connection_attempts = 1
    return each


async def resolve(each: list[pika.connection.Parameters]) -> list[pika.connection.Parameters]:
    """Return how to connect to each IP address that the hosts' names stand for, in order.

    All names are looked up at once. Raises BrokerError where none of them has an address.
    """
    looked_up = await asyncio.gather(
        *(names.addresses(one.host, one.port) for one in each), return_exceptions=True
    )
    resolved: list[pika.connection.Parameters] = []
    reason = ""
    for one, found in zip(each, looked_up, strict=True):
        if isinstance(found, OSError):
            reason = f"{one.host} has no address ({found.strerror or found})"
            continue
        if isinstance(found, BaseException):
            raise found
        for host in found:
            at_address = copy.copy(one)
            at_address.host = host
            if one.ssl_options is not None:  # the certificate is the name's
                name = one.ssl_options.server_hostname or one.host
                at_address.ssl_options = pika.SSLOptions(one.ssl_options.context, name)
            resolved.append(at_address)
    if not resolved:
        raise BrokerError(f"broker: {reason}")
    return resolved


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
            try:
                await self._connect()
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
        await asyncio.wait(
            [answer, self._lost], timeout=_CALL_TIMEOUT, return_when=asyncio.FIRST_COMPLETED
        )
        if answer.done():
            return answer.result()
        if self._lost.done():
            raise BrokerError(self._lost.result())
        raise BrokerError(f"broker: no answer within {_CALL_TIMEOUT:.0f} s")

    async def pause(self, seconds: float) -> None:
        """Sleep. Raises BrokerError as soon as the link is lost."""
        if self._lost is None:
            raise BrokerError("broker: not connected")
        await asyncio.wait([self._lost], timeout=seconds)
        if self._lost.done():
            raise BrokerError(self._lost.result())

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

        if not self._addresses:
            looking = asyncio.ensure_future(resolve(parameters(self._config)))
            try:
                self._addresses.extend(await self.wait(looking))
            finally:
                looking.cancel()
        self._connection = connection = FrameConnection(
            self._addresses.popleft(),
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
            connection.close_in_order()
        await asyncio.wait([closed], timeout=_DISCONNECT_TIMEOUT)


def _describe(error: BaseException) -> str:
    """Return in a few words why pika gave up; each of its classes nests the cause differently."""
    cause = error
    while True:
        inner = [*getattr(cause, "exceptions", ()), getattr(cause, "exception", None), *cause.args]
        nested = [each for each in inner if isinstance(each, BaseException)]
        if not nested:
            return f"{type(cause).__name__}: {cause}"
        cause = nested[-1]
