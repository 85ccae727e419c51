"""Accepts connections, and keeps what all of them have in common: their bounds and their end."""

import asyncio
import contextlib
import errno
import resource
import socket
from collections import deque
from collections.abc import Coroutine
from time import perf_counter
from typing import Any, Final

from appliance.api.http.connection import Connection
from appliance.api.http.crowd import Crowd, Member
from appliance.api.http.proxies import Proxies
from appliance.api.http.request import HeadPolicy
from appliance.api.http.tls import Certificate, Encrypted
from appliance.config import Address
from appliance.errors import ConfigError, OccupiedError
from appliance.machine.names import without_lookup

#: Connections at once; for one more, one that does nothing is closed. Each costs some kilobytes
#: and a file.
MAX_CONNECTIONS: Final = 4096
#: Encrypted connections at once on which nobody was authorized: each costs ten times as much.
_ENCRYPTED_STRANGERS: Final = 1024
#: Files that are left for all else: the database, the broker, what threads read.
_OTHER_FILES: Final = 256
#: Connections at once where the system allows hardly any files.
_LEAST_CONNECTIONS: Final = 16
#: Bytes that connections hold together of requests that are not whole, or that are sent ahead: of
#: those on which no request was authorized yet; those of the others are a setting.
_STRANGERS_BYTES: Final = 16 * 2**20
#: Seconds between two looks at the connections' deadlines.
_CHECK_SECONDS: Final = 0.5
#: Seconds in one turn of the event loop for what strangers have sent ahead.
_AHEAD_SECONDS: Final = 0.002
#: Connections that the kernel keeps until we accept them.
_BACKLOG: Final = 2048
#: Seconds between a stop's end of patience and the end of what still runs.
_LAST_SECONDS: Final = 1.0


class Budget:
    """Bytes that connections hold together."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.held = 0

    def change(self, more: int) -> bool:
        """Count `more` bytes (less than 0: fewer); whether the sum is within the limit."""
        self.held += more
        return self.held <= self._limit


class Acceptor:
    """All connections to one listening socket; used on the running event loop."""

    def __init__(
        self,
        policy: HeadPolicy,
        proxies: Proxies,
        most: int = MAX_CONNECTIONS,
        *,
        most_bytes: int = 64 * 2**20,
        certificate: Certificate | None = None,
    ) -> None:
        self._policy = policy
        self._certificate = certificate
        self.proxies = proxies
        self.loop = asyncio.get_running_loop()
        self.strangers = Budget(min(_STRANGERS_BYTES, most_bytes // 4))
        self.clients = Budget(most_bytes)
        self.crowd = Crowd(most, _ENCRYPTED_STRANGERS if certificate else None)
        self._ahead: deque[Connection] = deque()
        self._tasks: set[asyncio.Future[Any]] = set()
        self._is_empty = asyncio.Event()
        self._is_empty.set()
        self._stopping = False

    async def serve(self, listener: socket.socket, stop: asyncio.Event, patience: float) -> None:
        """Serve until `stop` is set; then answer what is under way, for `patience` seconds."""
        server = await self.loop.create_server(self._new, sock=listener, backlog=_BACKLOG)
        checking = asyncio.create_task(self._check_deadlines())
        try:
            await stop.wait()
        finally:
            server.close()
            self._stopping = True
            for connection in self.crowd.all():
                connection.stop()
            await self._end(patience)
            checking.cancel()

    def _new(self) -> asyncio.Protocol:
        if self._certificate is None:
            return Connection(self, self._policy)
        return Encrypted(self, self._policy, self._certificate)

    def add(self, connection: Member) -> bool:
        """Count a new connection; whether there is room for it."""
        has_room = self.crowd.add(connection)
        self._is_empty.clear()
        if self._stopping:
            connection.stop()
        return has_room

    def discard(self, connection: Member) -> None:
        """Count a connection no more."""
        self.crowd.discard(connection)
        if not self.crowd:
            self._is_empty.set()

    def advance_later(self, stranger: Connection) -> None:
        """Have a stranger's connection go on with what it has sent ahead, in its turn."""
        if not self._ahead:
            self.loop.call_soon(self._advance_strangers)
        self._ahead.append(stranger)

    def _advance_strangers(self) -> None:
        """Let one after another go on, for a moment; the rest waits for the loop's next turn."""
        until = perf_counter() + _AHEAD_SECONDS
        waiting, self._ahead = self._ahead, deque()
        while waiting and perf_counter() < until:
            waiting.popleft().advance_later()
        if waiting:  # before those that have had their turn
            if not self._ahead:
                self.loop.call_soon(self._advance_strangers)
            waiting.extend(self._ahead)
            self._ahead = waiting

    def task(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run what answers a request; a stop waits for it, and cancels it at last."""
        task = self.loop.create_task(coroutine)
        self.hold(task)
        return task

    def hold(self, waiting: asyncio.Future[Any]) -> None:
        """Cancel what an answer waits for when a stop has waited long enough."""
        self._tasks.add(waiting)
        waiting.add_done_callback(self._tasks.discard)

    async def _check_deadlines(self) -> None:
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            now = self.loop.time()
            for connection in self.crowd.all():
                connection.check(now)

    async def _end(self, patience: float) -> None:
        """Wait for the last answers; then cancel what makes them, and close what is still open."""
        for seconds in (patience, _LAST_SECONDS):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._is_empty.wait(), seconds)
            for task in list(self._tasks):
                task.cancel()
        for connection in self.crowd.all():
            connection.abort()


def listen(setting: str, address: Address) -> socket.socket:
    """Return a socket that listens on the address; on both families for `[::]`.

    Raises OccupiedError where another program listens there, else ConfigError; both name the
    setting.
    """
    host, port = without_lookup(address.host), address.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server(
            (host, port),
            family=family,
            backlog=_BACKLOG,
            dualstack_ipv6=host == "::" and socket.has_dualstack_ipv6(),
        )
    except OSError as error:
        kind = OccupiedError if error.errno == errno.EADDRINUSE else ConfigError
        raise kind(f"{setting}: can't listen on {address}: {error.strerror}") from error


def allow_files() -> int:
    """Raise the soft limit of open files; return how many connections it allows: each is one."""
    wanted = 2 * MAX_CONNECTIONS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return min(MAX_CONNECTIONS, max(soft - _OTHER_FILES, _LEAST_CONNECTIONS))
