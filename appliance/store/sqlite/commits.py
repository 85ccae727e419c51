"""Questions of the event loop: whether a message is committed, whether a key was used.

While a request waits, the worker names what it has committed by a datagram (see `machine.bell`),
which costs no look at the database. One may be lost, so there is a look now and then all the same;
and one in quick succession until the first datagram came. SQLite tells other processes of a commit
only when they ask: `PRAGMA data_version` costs a few microseconds and changes when another
connection has committed.
"""

import asyncio
import contextlib
import functools
import itertools
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog

from appliance.errors import StoreError
from appliance.machine.bell import BellListener
from appliance.machine.complaint import Complaint
from appliance.store.handler_rows import HandlerReply
from appliance.store.rows import EarlierMessage
from appliance.store.sqlite import handler_tables, open_files, paths
from appliance.store.sqlite.database import connect, sqlite3, store_error

#: Seconds between two looks while a request waits: where commits are told, and where they aren't.
_POLL_TOLD: Final = 0.025
_POLL: Final = 0.002
#: Looks take no more than this share of the time, unless they are further apart than that.
_SHARE: Final = 0.1
_MOST_SECONDS: Final = 0.5
#: Seconds for which commits are told on when nobody waits: the next request may come.
_IDLE_SECONDS: Final = 5.0
#: Seconds after which a commit that was not told before anybody waited is none.
_WARM_SECONDS: Final = 1.0
#: Messages that a look finds, one after another, when the worker does not tell of commits.
_MOST_UNTOLD: Final = 8
#: Ids that are remembered: the message of a request may be stored before the request waits.
_REMEMBERED: Final = 4096
#: Ids asked for in one statement.
_CHUNK: Final = 500

_STORED: Final = "SELECT id FROM messages WHERE id IN ({marks})"
_STORED_OR_HANDLED: Final = (
    "SELECT id FROM messages WHERE id IN ({marks}) "
    "UNION ALL SELECT id FROM handled_messages WHERE id IN ({marks})"
)

_T = TypeVar("_T")
_log: Any = structlog.get_logger(__name__)


class CommitWatch:
    """Watches for commits: told by the worker, and on one read-only connection in a thread.

    `folder` is where the worker finds whom to tell. With `handlers`, a message that was handled is
    looked for too.
    """

    def __init__(self, path: Path, folder: Path, *, handlers: bool = False) -> None:
        self._path = path
        self._query = _STORED_OR_HANDLED if handlers else _STORED
        self._folder = folder
        self._thread = ThreadPoolExecutor(1, "commit-watch")
        self._connection: Any = None
        self._version = -1
        self._log: tuple[int, int] | None = None
        self._waiting: dict[str, list[tuple[asyncio.Future[bool], float]]] = {}
        self._new: set[str] = set()  # of those, not looked for yet
        self._told: dict[str, bool] = {}
        self._listener: BellListener | None = None
        self._listening_since = math.inf
        self._untold = math.inf  # messages that a look found since something was told
        self._ticking: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._is_due = False  # a look at all that are waited for
        self._took = 0.0  # seconds of the last look
        self._complaint = Complaint(_log, "commits not visible", "commits visible again")

    async def committed(self, message_id: str, timeout: float) -> bool:  # noqa: ASYNC109
        """Wait until a message is stored, for `timeout` seconds at most; return whether it is."""
        return await self.when_committed(message_id, timeout)

    def when_committed(self, message_id: str, timeout: float) -> asyncio.Future[bool]:
        """Return a future that says within `timeout` seconds whether a message is stored."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        if self._told.pop(message_id, False):
            future.set_result(True)
            return future
        now = loop.time()
        self._waiting.setdefault(message_id, []).append((future, now + timeout))
        if self._ticking is None or self._ticking.done():
            self._listen(loop)
            self._ticking = loop.create_task(self._tick(loop))
        self._new.add(message_id)
        if not self._is_told or now < self._listening_since + _WARM_SECONDS:
            self._look_soon()
        return future

    @property
    def _is_told(self) -> bool:
        return self._untold < _MOST_UNTOLD

    async def with_prefix(self, prefix: str, limit: int) -> list[EarlierMessage]:
        """Return up to `limit` stored messages whose ids begin with `prefix`, in order.

        Raises StoreError.
        """
        first, last = prefix + "00000000", prefix + "ffffffff"

        def select(connection: Any) -> list[EarlierMessage]:
            rows = connection.execute(
                "SELECT id, received_at, body FROM messages WHERE id BETWEEN ? AND ? "
                "ORDER BY id LIMIT ?",
                (first, last, limit),
            )
            return [EarlierMessage(*row) for row in rows]

        return await self._ask(select)

    async def in_hand(self, prefix: str, limit: int) -> list[EarlierMessage]:
        """Return the same of messages that wait for a handler, or were handled."""
        return await self._ask(lambda link: handler_tables.in_hand(link, prefix, limit))

    async def reply(self, message_id: str) -> HandlerReply | None:
        """Return what its handler said of a message; None where it has not said anything."""
        return await self._ask(lambda link: handler_tables.reply(link, message_id))

    def close(self) -> None:
        """End the thread after the question under way."""
        for task in (self._ticking, self._looking):
            if task is not None:
                task.cancel()
        self._deafen()
        self._thread.submit(self._disconnect)
        self._thread.shutdown()

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have commits told from now on; where that can't be, they are looked for."""
        if self._listener is None:
            with contextlib.suppress(OSError):
                self._listener = BellListener(self._folder)
                loop.add_reader(self._listener.fileno(), self._hear, self._listener)
                self._listening_since = loop.time()

    def _deafen(self) -> None:
        if self._listener is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                asyncio.get_running_loop().remove_reader(self._listener.fileno())
            self._listener.close()
            self._listener = None
        self._listening_since = self._untold = math.inf
        self._told.clear()

    def _hear(self, listener: BellListener) -> None:
        """Answer those whose messages the worker names."""
        names, more = listener.read()
        self._untold = 0
        waiting, told = self._waiting, self._told
        for name in names:
            if name in waiting:
                self._answer(name)
            else:
                told[name] = True
        for name in list(itertools.islice(told, max(0, len(told) - _REMEMBERED))):
            del told[name]
        if more and waiting:
            self._look_soon()

    def _answer(self, message_id: str) -> None:
        for future, _ in self._waiting.pop(message_id, ()):
            if not future.done():
                future.set_result(True)
        self._new.discard(message_id)

    async def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look now and then, and end the waits that are over, until nobody waits for a while.

        A look may take for ever on a disk that hangs; no wait does.
        """
        used = loop.time()
        while loop.time() < used + _IDLE_SECONDS:
            pause = _POLL_TOLD if self._is_told or not self._waiting else _POLL
            await asyncio.sleep(max(pause, min(self._took / _SHARE, _MOST_SECONDS)))
            self._expire(loop.time())
            if self._waiting:
                used = loop.time()
                self._look_soon()
        self._deafen()

    def _expire(self, now: float) -> None:
        """End the waits that are over, and forget those that were given up."""
        for message_id, waiters in list(self._waiting.items()):
            left = []
            for future, until in waiters:
                if until <= now and not future.done():
                    future.set_result(False)
                if not future.done():
                    left.append((future, until))
            if left:
                self._waiting[message_id] = left
            else:
                del self._waiting[message_id]
                self._new.discard(message_id)

    def _look_soon(self) -> None:
        self._is_due = True
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look_while_due())

    async def _look_while_due(self) -> None:
        while self._is_due:
            self._is_due = False
            began = time.monotonic()
            if not await self._look():
                return  # the next tick tries again
            self._took = time.monotonic() - began

    async def _look(self) -> bool:
        """Look for all that are waited for; return whether the database could be asked."""
        new, self._new = self._new, set()
        try:
            stored = await self._ask(
                functools.partial(self._select, ids=list(self._waiting), new=new)
            )
        except StoreError as error:
            self._complaint.fails(error=str(error))
            self._new |= new & self._waiting.keys()
            return False
        self._complaint.works()
        for message_id in stored:
            if message_id in self._waiting:
                self._untold += 1
                self._answer(message_id)
        return True

    def _select(self, connection: Any, ids: list[str], new: set[str]) -> list[str]:
        """Return the ids that are stored; where nothing was committed, look only at new ones."""
        version = connection.execute("PRAGMA data_version").fetchone()[0]
        if version == self._version:
            ids = [message_id for message_id in ids if message_id in new]
        stored: list[str] = []
        for start in range(0, len(ids), _CHUNK):
            chunk = ids[start : start + _CHUNK]
            marks = ",".join("?" * len(chunk))
            query = self._query.format(marks=marks)
            rows = connection.execute(query, chunk * query.count("("))
            stored += [row[0] for row in rows]
        self._version = version
        return stored

    async def _ask(self, question: Callable[[Any], _T]) -> _T:
        def ask() -> _T:
            try:
                log = open_files.identity(paths.wal(self._path))
                if self._log is None:
                    self._log = log
                if self._log != log:  # another program removed the one that is open here
                    self._disconnect()
                if self._connection is None:
                    self._connection, self._version = connect(self._path, readonly=True), -1
                    self._log = log
                return question(self._connection)
            except sqlite3.Error as error:
                self._disconnect()
                raise store_error(error, self._path) from error

        return await asyncio.get_running_loop().run_in_executor(self._thread, ask)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
