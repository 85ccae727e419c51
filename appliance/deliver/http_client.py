"""An HTTP client for deliveries: one POST, to a checked address, and how its answer begins.

It knows nothing that a receiver could use: no redirects, no proxies from the environment, no
cookies, no compression. What it reads is bounded in bytes and in time. A connection is used again
for the next message, for a minute at most, so that a changed name is seen.
"""

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, cast

import httptools

from appliance.deliver import reach
from appliance.deliver.reach import OutOfReachError
from appliance.machine.outward import Network
from appliance.model.endpoint_url import EndpointUrl

#: Seconds until a connection is made, TLS included.
_CONNECT_SECONDS: Final = 10.0
#: Bytes of an answer's body that are read, and that are kept; more is cut, and the connection with
#: it.
_READ_BYTES: Final = 64 * 2**10
_KEPT_BYTES: Final = 500
#: Bytes of an answer's head, and of all of them before the last one (103 and the like).
_HEAD_BYTES: Final = 32 * 2**10
#: The first status of an answer; those before it only announce one (RFC 9110, 15.2).
_FIRST_FINAL: Final = 200
#: Seconds for which a connection is used, and for which it may wait for its next message.
_LIFETIME: Final = 60.0
_IDLE: Final = 15.0
#: Least share of the time that is left for an address, where a host has several.
_LEAST_TRY: Final = 1.0


class HttpAnswer(NamedTuple):
    """How an endpoint answered: its status, what it asks for, and how its body begins."""

    status: int
    retry_after: bytes
    body: bytes


class NoAnswerError(Exception):
    """There was no answer that could be read; the message says why, in words."""


class HttpClient:
    """Sends requests to one endpoint; used on one event loop.

    `listed` are the networks that may be reached although they are private. `context` makes the TLS
    of connections; it is called once one is needed.
    """

    def __init__(
        self, url: EndpointUrl, listed: Sequence[Network], context: Callable[[], ssl.SSLContext]
    ) -> None:
        self._url = url
        self._listed = listed
        self._context = context
        self._idle: deque[_Connection] = deque()

    async def post(self, head: bytes, body: bytes, seconds: float) -> HttpAnswer:
        """Send a request; `head` is all of it but the body. Raises NoAnswerError."""
        try:
            async with asyncio.timeout(seconds):
                return await self._post(head, body, time.monotonic() + seconds)
        except TimeoutError as error:
            raise NoAnswerError(f"no answer within {seconds:.0f} s") from error

    def close(self) -> None:
        """Close the connections that wait for a next message."""
        while self._idle:
            self._idle.pop().close()

    async def _post(self, head: bytes, body: bytes, deadline: float) -> HttpAnswer:
        while (connection := self._waiting()) is not None:
            try:
                return await self._exchange(connection, head, body)
            except _UnusedError:
                continue  # it was closed while it waited, and nothing of an answer came
        connection = await self._connect(deadline)
        try:
            return await self._exchange(connection, head, body)
        except _UnusedError as error:
            raise NoAnswerError("the connection ended before an answer") from error

    def _waiting(self) -> "_Connection | None":
        now = time.monotonic()
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable(now):
                return connection
            connection.close()
        return None

    async def _exchange(self, connection: "_Connection", head: bytes, body: bytes) -> HttpAnswer:
        try:
            answer = await connection.exchange(head, body)
        except BaseException:
            connection.close()
            raise
        now = time.monotonic()
        if connection.is_usable(now):
            self._idle.append(connection)
            while not self._idle[0].is_usable(now):
                self._idle.popleft().close()
        else:
            connection.close()
        return answer

    async def _connect(self, deadline: float) -> "_Connection":
        url = self._url
        try:
            addresses = await reach.addresses(url.host, url.port, self._listed)
        except OutOfReachError as error:
            raise NoAnswerError(str(error)) from error
        loop = asyncio.get_running_loop()
        secure: dict[str, Any] = {}
        if url.is_secure:
            secure = {"ssl": self._context(), "server_hostname": url.host.removesuffix(".")}
        problem = ""
        for place, address in enumerate(addresses):
            left = min(deadline - time.monotonic(), _CONNECT_SECONDS)
            share = max(_LEAST_TRY, left / (len(addresses) - place))
            try:
                async with asyncio.timeout(share):
                    # An address, so that nothing is looked up a second time.
                    _, connection = await loop.create_connection(
                        _Connection, address, url.port, **secure
                    )
            except TimeoutError:
                problem = f"{address} took no connection within {share:.0f} s"
            except ssl.SSLCertVerificationError as error:
                problem = f"the certificate is not accepted: {error.verify_message}"
            except ssl.SSLError as error:
                problem = f"TLS failed: {error.reason or error}"
            except OSError as error:
                problem = f"{address} took no connection: {error.strerror or error}"
            else:
                return connection
        raise NoAnswerError(problem)


class _UnusedError(Exception):
    """The connection ended before the first byte of an answer."""


class _Connection(asyncio.Protocol):
    """A connection that carries one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._began = self._used = time.monotonic()
        self._is_open = False
        self._parser: Any = None
        self._done: asyncio.Future[HttpAnswer] | None = None
        self._heard = 0
        self._is_headed = False
        self._status = 0
        self._retry_after = b""
        self._body = bytearray()
        self._body_bytes = 0

    def is_usable(self, now: float) -> bool:
        """Whether the next request can be sent on it."""
        return (
            self._is_open
            and self._done is None
            and now - self._began < _LIFETIME
            and now - self._used < _IDLE
        )

    def close(self) -> None:
        """End the connection at once."""
        self._is_open = False
        if self._transport is not None:
            self._transport.abort()

    async def exchange(self, head: bytes, body: bytes) -> HttpAnswer:
        """Send a request, and return its answer. Raises NoAnswerError, _UnusedError."""
        transport = self._transport
        if transport is None or not self._is_open:
            raise _UnusedError
        self._parser = httptools.HttpResponseParser(self)
        self._heard = self._body_bytes = 0
        self._is_headed = False
        self._retry_after = b""
        self._body.clear()
        self._done = asyncio.get_running_loop().create_future()
        # One write for what is small, and no copy of what is not.
        if len(body) < 2**14:
            transport.write(head + body)
        else:
            transport.writelines((head, body))
        try:
            return await self._done
        finally:
            self._done = None
            self._used = time.monotonic()

    # --- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it
        self._is_open = True

    def data_received(self, data: bytes) -> None:
        """Read an answer, up to its bounds."""
        if self._done is None or self._done.done():
            self.close()  # nothing was asked
            return
        self._heard += len(data)
        try:
            self._parser.feed_data(data)
            if not self._is_headed and self._heard > _HEAD_BYTES:
                self._fail(f"the head of the answer has more than {_HEAD_BYTES} bytes")
        except httptools.HttpParserUpgrade:
            self._fail("the answer changes the protocol")
        except httptools.HttpParserError as error:
            self._fail(f"the answer is not HTTP: {error}")

    def connection_lost(self, _: Exception | None) -> None:
        """End the answer, which may be whole: one without a length ends with its connection."""
        self._is_open = False
        if self._done is None or self._done.done():
            return
        if self._is_headed:
            self._finish()
        elif self._heard:
            self._fail("the connection ended within the answer")
        else:
            self._done.set_exception(_UnusedError())

    # --- what the parser calls

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep the one header that is heeded."""
        if name.lower() == b"retry-after":
            self._retry_after = value

    def on_headers_complete(self) -> None:
        """Note the status; one below 200 is no answer yet."""
        self._status = int(self._parser.get_status_code())
        self._is_headed = self._status >= _FIRST_FINAL

    def on_body(self, data: bytes) -> None:
        """Keep how the body begins; of a huge one no more is read."""
        self._body_bytes += len(data)
        if len(self._body) < _KEPT_BYTES:
            self._body += data[: _KEPT_BYTES - len(self._body)]
        if self._body_bytes > _READ_BYTES:
            self._finish()
            self.close()

    def on_message_complete(self) -> None:
        """Give the answer back."""
        if self._is_headed:
            self._finish()
            if not self._parser.should_keep_alive():
                self.close()

    def _finish(self) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(HttpAnswer(self._status, self._retry_after, bytes(self._body)))

    def _fail(self, words: str) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(NoAnswerError(words))
        self.close()
