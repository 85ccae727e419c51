"""Questions of the event loop: whether a message is committed, whether a key was used.

SQLite tells other processes of a commit only when they ask: `PRAGMA data_version` costs a few
microseconds and changes when another connection has committed. It is asked only while a request
waits.
"""

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog

from appliance.errors import StoreError
from appliance.machine.complaint import Complaint
from appliance.store.rows import EarlierMessage
from appliance.store.sqlite import open_files, paths
from appliance.store.sqlite.database import connect, sqlite3, store_error

#: Seconds between two looks while a request waits.
_POLL: Final = 0.002
#: Ids asked for in one statement.
_CHUNK: Final = 500

_T = TypeVar("_T")
_log: Any = structlog.get_logger(__name__)


class CommitWatch:
    """Watches for commits on one read-only connection, in a thread of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, "commit-watch")
        self._connection: Any = None
        self._version = -1
        self._log: tuple[int, int] | None = None
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        self._new: set[str] = set()
        self._poll: asyncio.Task[None] | None = None
        self._complaint = Complaint(_log, "commits not visible", "commits visible again")

    async def committed(self, message_id: str, timeout: float) -> bool:  # noqa: ASYNC109
        """Wait until a message is stored, for `timeout` seconds at most; return whether it is."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(message_id, []).append(future)
        self._new.add(message_id)
        if self._poll is None or self._poll.done():
            self._poll = asyncio.create_task(self._look())
        await asyncio.wait([future], timeout=timeout)
        if future.done():
            return True
        waiters = self._waiting.get(message_id, [])
        if future in waiters:
            waiters.remove(future)
            if not waiters:
                del self._waiting[message_id]
        return False

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

    def close(self) -> None:
        """End the thread after the question under way."""
        if self._poll is not None:
            self._poll.cancel()
        self._thread.submit(self._disconnect)
        self._thread.shutdown()

    async def _look(self) -> None:
        while self._waiting:
            ids = list(self._waiting)
            new, self._new = self._new, set()
            try:
                stored = await self._ask(functools.partial(self._select, ids=ids, new=new))
            except StoreError as error:
                self._complaint.fails(error=str(error))
                self._new |= new
                stored = []
            else:
                self._complaint.works()
            for message_id in stored:
                for future in self._waiting.pop(message_id, []):
                    if not future.done():
                        future.set_result(None)
            await asyncio.sleep(_POLL)

    def _select(self, connection: Any, ids: list[str], new: set[str]) -> list[str]:
        """Return the ids that are stored; where nothing was committed, look only at new ones."""
        version = connection.execute("PRAGMA data_version").fetchone()[0]
        if version == self._version:
            ids = [message_id for message_id in ids if message_id in new]
        stored: list[str] = []
        for start in range(0, len(ids), _CHUNK):
            chunk = ids[start : start + _CHUNK]
            marks = ",".join("?" * len(chunk))
            rows = connection.execute(f"SELECT id FROM messages WHERE id IN ({marks})", chunk)  # noqa: S608  # only question marks
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
