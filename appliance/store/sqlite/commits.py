"""Ask the store on behalf of the event loop: is it committed, was this key used.

SQLite tells other processes of a commit only when asked: `PRAGMA data_version` costs a few
microseconds and changes when somebody else has committed. It is asked only while someone waits.
"""

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import structlog

from appliance.errors import StoreError
from appliance.store.sqlite.connection import connect, sqlite3, store_error

#: Seconds between two looks while somebody waits.
_POLL: Final = 0.002
#: Ids asked for in one statement.
_CHUNK: Final = 500

_T = TypeVar("_T")
_log: Any = structlog.get_logger(__name__)


class Stored(NamedTuple):
    """A stored message, as far as an idempotency key's retry is compared with it."""

    id: str
    received_at: str
    body: str | bytes


class Watch:
    """One read-only connection in a thread of its own; the methods are called on the loop."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, "store-watch")
        self._connection: Any = None
        self._version = -1
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        self._new: set[str] = set()
        self._poll: asyncio.Task[None] | None = None

    async def committed(self, message_id: str, timeout: float) -> bool:  # noqa: ASYNC109
        """Wait until a message is a row, at most `timeout` seconds; whether it is."""
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

    async def stored(self, prefix: str, most: int) -> list[Stored]:
        """Return the stored messages whose ids begin with `prefix`, in order, at most `most`.

        Raises StoreError.
        """
        first, last = prefix + "00000000", prefix + "ffffffff"

        def select(connection: Any) -> list[Stored]:
            rows = connection.execute(
                "SELECT id, received_at, body FROM messages WHERE id BETWEEN ? AND ? "
                "ORDER BY id LIMIT ?",
                (first, last, most),
            )
            return [Stored(*row) for row in rows]

        return await self._ask(select)

    def close(self) -> None:
        """End the thread; waits for the question under way."""
        if self._poll is not None:
            self._poll.cancel()
        self._thread.submit(self._disconnect)
        self._thread.shutdown()

    async def _look(self) -> None:
        told = False
        while self._waiting:
            asked = list(self._waiting)
            new, self._new = self._new, set()
            try:
                found = await self._ask(functools.partial(self._find, asked=asked, new=new))
            except StoreError as error:
                if not told:
                    _log.warning("can't see what is stored", error=str(error))
                told = True
                self._new |= new
                found = []
            for message_id in found:
                for future in self._waiting.pop(message_id, []):
                    if not future.done():
                        future.set_result(None)
            await asyncio.sleep(_POLL)

    def _find(self, connection: Any, asked: list[str], new: set[str]) -> list[str]:
        """Return which of the ids are stored; look only at the new ones if nothing has changed."""
        version = connection.execute("PRAGMA data_version").fetchone()[0]
        if version == self._version:
            asked = [message_id for message_id in asked if message_id in new]
        found: list[str] = []
        for start in range(0, len(asked), _CHUNK):
            ids = asked[start : start + _CHUNK]
            marks = ",".join("?" * len(ids))
            rows = connection.execute(f"SELECT id FROM messages WHERE id IN ({marks})", ids)  # noqa: S608  # only question marks
            found += [row[0] for row in rows]
        self._version = version
        return found

    async def _ask(self, question: Callable[[Any], _T]) -> _T:
        def ask() -> _T:
            try:
                if self._connection is None:
                    self._connection, self._version = connect(self._path, readonly=True), -1
                return question(self._connection)
            except sqlite3.Error as error:
                self._disconnect()
                raise store_error(error, self._path) from error

        return await asyncio.get_running_loop().run_in_executor(self._thread, ask)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
