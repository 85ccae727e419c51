"""Connections for reading: one for each thread, which any thread may close at any time.

A connection that is closed while another thread reads on it can end the process: SQLite's memory is
given back under the read. So each is lent for the time of a read, and one that is to be closed
meanwhile is closed by the thread that reads, when its read ends. A cursor is not used, nor kept,
after its read.
"""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Generic, Protocol, TypeVar


class _Connection(Protocol):
    def close(self) -> None:
        """Close it."""


C = TypeVar("C", bound=_Connection)


class _Lent(AbstractContextManager[C]):
    """A thread's connection, from when it is lent to the end of the block.

    `reads` are under way on it. One that `is_left` is lent no more, and closed after the last one.
    """

    __slots__ = ("_lock", "connection", "is_left", "reads")

    def __init__(self, connection: C, lock: threading.RLock) -> None:
        self._lock = lock
        self.connection = connection
        self.reads = 1  # it is opened for a read
        self.is_left = False

    def __enter__(self) -> C:
        return self.connection

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.reads -= 1
            is_over = self.is_left and not self.reads
        if is_over:
            self.connection.close()


class ThreadConnections(Generic[C]):
    """A connection for each thread that reads, opened by `open_one`; used by any thread.

    `is_current` says before each read whether an open one can still be used; where it can't,
    another one is opened. What these two raise, `lending` does.
    """

    def __init__(self, open_one: Callable[[], C], is_current: Callable[[C], bool]) -> None:
        self._open_one = open_one
        self._is_current = is_current
        # By the number of the thread. That of one which has ended is given to a later one, which
        # takes its connection over: so there are never more than there were threads at once.
        self._lent: dict[int, _Lent[C]] = {}
        # A read that was given up ends where its generator is collected, which can be within a
        # block of the same thread that holds the lock.
        self._lock = threading.RLock()

    def lending(self) -> AbstractContextManager[C]:
        """Lend this thread's connection to the block that follows at once.

        A read within a read has the same one, unless that was closed in between.
        """
        thread = threading.get_ident()
        with self._lock:
            lent = self._lent.get(thread)
            if lent is not None:
                lent.reads += 1
        if lent is None:
            return self._opened(thread)
        try:
            if self._is_current(lent.connection):
                return lent
        except BaseException:
            lent.__exit__()
            raise
        with lent:
            self.leave(lent.connection)
        return self._opened(thread)

    def leave(self, connection: C) -> None:
        """Have a connection that is lent closed when the last read on it ends: it failed."""
        with self._lock:
            for thread, lent in list(self._lent.items()):
                if lent.connection is connection:
                    lent.is_left = True
                    del self._lent[thread]

    def close(self) -> None:
        """Close every thread's connection: at once, or when the last read on it ends.

        A thread that reads later opens another one.
        """
        with self._lock:
            every = list(self._lent.values())
            self._lent.clear()
            for lent in every:
                lent.is_left = True
            idle = [lent.connection for lent in every if not lent.reads]
        for connection in idle:
            connection.close()

    def _opened(self, thread: int) -> _Lent[C]:
        lent = _Lent(self._open_one(), self._lock)
        with self._lock:
            self._lent[thread] = lent
        return lent
