"""Accepts connections, and keeps what all of them have in common: their bounds and their end."""

import asyncio
import contextlib
import ctypes
import errno
import resource
import socket
import struct
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
#: Seconds in which connections that others begin to make are still taken when one of several
#: processes stops: longer than the network's way there and back, and shorter than the second after
#: which a client's kernel asks again.
_HANDSHAKE_SECONDS: Final = 0.2
#: Seconds in which each connection may ask once more then, before it is closed.
_LAST_CALL_SECONDS: Final = 1.0
#: Number of the option by which the kernel drops what a filter says (`socket` has no name for it).
_SO_ATTACH_FILTER: Final = 26
#: The filter, in the instructions of bpf(4): drop what has SYN and not ACK, keep all else. A TCP
#: header has the flags in its 14th byte.
_NO_NEW_CONNECTIONS: Final = (
    (0x30, 0, 0, 13),  # load that byte
    (0x54, 0, 0, 0x12),  # leave SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN alone?
    (0x06, 0, 0, 0),  # drop it
    (0x06, 0, 0, 0xFFFFFFFF),  # keep it
)
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
        self._is_last_call = False

    async def serve(
        self,
        listener: socket.socket,
        stop: asyncio.Event,
        patience: float,
        *,
        shared: bool = False,
    ) -> None:
        """Serve until `stop` is set; then answer what is under way, for `patience` seconds.

        `shared`: other processes listen on the same address. No client then sees an error by the
        stop: whoever has a connection to this one may ask once more, and is told that it ends.
        """
        server = await self.loop.create_server(self._new, sock=listener, backlog=_BACKLOG)
        checking = asyncio.create_task(self._check_deadlines())
        try:
            await stop.wait()
        finally:
            ends_at = self.loop.time() + patience
            if shared:
                await self._hand_over(listener, server)
            server.close()
            self._stopping = True
            for connection in self.crowd.all():
                connection.stop()
            await self._end(ends_at - self.loop.time())
            checking.cancel()

    async def _hand_over(self, listener: socket.socket, server: asyncio.Server) -> None:
        """Leave new connections to the other processes, and answer each of ours once more.

        The kernel would reset those that it has queued here, or is still making, when the socket
        is closed.
        """
        self._is_last_call = True
        for connection in self.crowd.all():
            connection.last_call()
        until = self.loop.time() + _LAST_CALL_SECONDS
        with contextlib.suppress(OSError):  # it works without, less surely
            _refuse_new(listener)
        await asyncio.sleep(_HANDSHAKE_SECONDS)
        while True:
            try:
                accepted, _ = listener.accept()
            except OSError:  # none is left
                break
            accepted.setblocking(False)
            await self.loop.connect_accepted_socket(self._new, accepted)
        server.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._is_empty.wait(), until - self.loop.time())

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
        elif self._is_last_call:
            connection.last_call()
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


def listen(setting: str, address: Address, *, shared: bool = False) -> socket.socket:
    """Return a socket that listens on the address; on both families for `[::]`.

    `shared`: other processes of this user may listen there as well, if they say so too. The kernel
    gives each of them its part of the connections.

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
            reuse_port=shared,
            dualstack_ipv6=host == "::" and socket.has_dualstack_ipv6(),
        )
    except OSError as error:
        kind = OccupiedError if error.errno == errno.EADDRINUSE else ConfigError
        raise kind(f"{setting}: can't listen on {address}: {error.strerror}") from error


def _refuse_new(listener: socket.socket) -> None:
    """Have the kernel drop attempts to connect: the clients' kernels try again after a second.

    By then the socket is closed, and another process gets them. Connections that are being made
    come about. Raises OSError.
    """
    instructions = b"".join(struct.pack("=HBBI", *each) for each in _NO_NEW_CONNECTIONS)
    program = ctypes.create_string_buffer(instructions, len(instructions))
    header = struct.pack("@HP", len(_NO_NEW_CONNECTIONS), ctypes.addressof(program))
    listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, header)


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
