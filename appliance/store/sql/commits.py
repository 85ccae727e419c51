"""Questions of the event loop: whether a message is committed, whether a key was used.

While a request waits, the worker names what it has committed by a datagram (see `machine.bell`),
which costs no look at the database. One may be lost, so there is a look now and then all the same;
and one in quick succession until the first datagram came. A worker on another host tells nobody
here: what it stores is found by the looks alone.
"""

import asyncio
import contextlib
import functools
import itertools
import json
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import structlog

from appliance.errors import StoreError
from appliance.machine.bell import BellListener
from appliance.machine.complaint import Complaint
from appliance.store.handler_rows import HandlerReply
from appliance.store.rows import EarlierMessage
from appliance.store.sql import handler_tables
from appliance.store.sql.database import SqlConnection, SqlWords, body_value

#: Seconds between two looks while a request waits and commits are told.
POLL_TOLD: Final = 0.025
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
#: Of the prefixes in a JSON array, which takes the place of `{texts}`, those of stored messages.
_USED: Final = (
    "WITH asked (prefix) AS ({texts}) SELECT prefix FROM asked WHERE (SELECT min(id) FROM messages "
    "WHERE id BETWEEN prefix || '00000000' AND prefix || 'ffffffff') IS NOT NULL"
)

_T = TypeVar("_T")
_log: Any = structlog.get_logger(__name__)


class CommitLook(Protocol):
    """A read-only connection of an engine's, used by one thread at a time."""

    @property
    def words(self) -> SqlWords:
        """The engine's words."""

    @property
    def poll(self) -> float:
        """Seconds between two looks while a request waits and commits are not told."""

    def ask(self, question: Callable[[SqlConnection], _T]) -> _T:
        """Put a question to the database, once it can be opened. Raises StoreError."""

    def version(self, connection: SqlConnection) -> object:
        """Return what is another one after every commit; it can be one each time."""

    def close(self) -> None:
        """Close the connection."""


class CommitWatch:
    """Watches for commits: told by the worker, and by looks in a thread.

    `folder` is where the worker finds whom to tell. With `handlers`, a message that was handled is
    looked for too.
    """

    def __init__(self, database: CommitLook, folder: Path, *, handlers: bool = False) -> None:
        self._database = database
        self._query = _STORED_OR_HANDLED if handlers else _STORED
        self._folder = folder
        self._thread = ThreadPoolExecutor(1, "commit-watch")
        self._version: object = None
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
        #: Prefixes that are asked for, and who asks.
        self._asked: dict[str, list[asyncio.Future[bool]]] = {}
        self._answering: asyncio.Task[None] | None = None
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

    def is_used(self, prefix: str) -> asyncio.Future[bool]:
        """Return a future that says whether a stored message's id begins with `prefix`.

        It may end with StoreError. All that are asked for during a look share the next one.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        self._asked.setdefault(prefix, []).append(future)
        if self._answering is None or self._answering.done():
            self._answering = loop.create_task(self._answer_asked())
        return future

    async def with_prefix(self, prefix: str, limit: int) -> list[EarlierMessage]:
        """Return up to `limit` stored messages whose ids begin with `prefix`, in order.

        Raises StoreError.
        """
        first, last, words = prefix + "00000000", prefix + "ffffffff", self._database.words

        def select(connection: SqlConnection) -> list[EarlierMessage]:
            rows = connection.execute(
                f"SELECT id, received_at, {words.body_pair} FROM messages "  # noqa: S608  # ours
                "WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?",
                (first, last, limit),
            )
            return [
                EarlierMessage(message_id, at, body_value(text, other))
                for message_id, at, text, other in rows
            ]

        return await self._ask(select)

    async def in_hand(self, prefix: str, limit: int) -> list[EarlierMessage]:
        """Return the same of messages that wait for a handler, or were handled."""
        words = self._database.words
        return await self._ask(lambda link: handler_tables.in_hand(link, words, prefix, limit))

    async def reply(self, message_id: str) -> HandlerReply | None:
        """Return what its handler said of a message; None where it has not said anything."""
        words = self._database.words
        return await self._ask(lambda link: handler_tables.reply(link, words, message_id))

    def close(self) -> None:
        """End the thread after the question under way."""
        for task in (self._ticking, self._looking, self._answering):
            if task is not None:
                task.cancel()
        self._deafen()
        self._thread.submit(self._database.close)
        self._thread.shutdown()

    async def _answer_asked(self) -> None:
        while self._asked:
            asked, self._asked = self._asked, {}
            waiting = [each for futures in asked.values() for each in futures]
            try:
                used = await self._ask(functools.partial(self._select_used, prefixes=list(asked)))
            except Exception as error:  # noqa: BLE001  # whoever asked is told, whatever it is
                for future in waiting:
                    if not future.done():
                        future.set_exception(error)
                continue
            for prefix, futures in asked.items():
                for future in futures:
                    if not future.done():
                        future.set_result(prefix in used)

    def _select_used(self, connection: SqlConnection, prefixes: list[str]) -> set[str]:
        query = _USED.format(texts=self._database.words.texts.format("?"))
        used: set[str] = set()
        for start in range(0, len(prefixes), _CHUNK):
            chunk = json.dumps(prefixes[start : start + _CHUNK])
            used |= {row[0] for row in connection.execute(query, (chunk,))}
        return used

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
            pause = POLL_TOLD if self._is_told or not self._waiting else self._database.poll
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

    def _select(self, connection: SqlConnection, ids: list[str], new: set[str]) -> list[str]:
        """Return the ids that are stored; where nothing was committed, look only at new ones."""
        version = self._database.version(connection)
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

    async def _ask(self, question: Callable[[SqlConnection], _T]) -> _T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._database.ask, question)
