"""One stream: its place, its client's room, and how it ends."""

import asyncio
import math
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from appliance.api.http.request import Request
from appliance.api.stream import events
from appliance.api.stream.events import Piece
from appliance.api.stream.stream_options import StreamOptions
from appliance.store.rows import Followed


class Ending(StrEnum):
    """Why a stream ends."""

    LEFT = "left"
    REVOKED = "revoked"
    STOPPED = "stopped"
    TOO_SLOW = "too slow"


#: Endings in which a client that is still there is not to be told more.
_CUT_OFF: Final = (Ending.REVOKED, Ending.TOO_SLOW, Ending.LEFT)


class Listener:
    """Writes to one client. Everything up to `place` was written, or is not for it.

    `hold` is told of the bytes that wait for a slow client; 0: none any more.
    """

    __slots__ = (
        "_ending",
        "_hold",
        "_is_started",
        "_said",
        "_waiter",
        "options",
        "place",
        "request",
        "wrote_at",
    )

    def __init__(
        self, request: Request, options: StreamOptions, hold: Callable[["Listener", int], None]
    ) -> None:
        self.request = request
        self.options = options
        self.place = 0
        #: when something was written last, by the clock of the event loop
        self.wrote_at = math.inf
        self._hold = hold
        self._said = 0  # the last place that the client was told
        self._waiter: asyncio.Future[None] | None = None
        self._ending: Ending | None = None
        self._is_started = False

    @property
    def followed(self) -> Followed:
        """What is followed at first: of what came before, only what is not too old."""
        followed, since = self.options.followed, self.options.since
        return followed if since is None else Followed(followed.topic, followed.patterns, since)

    @property
    def is_over(self) -> bool:
        """Whether the stream is to end."""
        return self._ending is not None

    @property
    def is_waiting(self) -> bool:
        """Whether it has nothing to do until it is woken."""
        return self._waiter is not None and not self._waiter.done()

    def start(self) -> None:
        """Begin the answer; the first event tells the place, from which a client can go on."""
        self._is_started = True
        self.request.start(200, events.HEADERS)
        self.request.on_leave(self._leave)
        self._said = self.place
        self._write(events.RETRY + events.place(self.place))

    def write(self, piece: Piece) -> bool:
        """Write a piece; whether there is room for the next. Where it is over, nothing is."""
        if self.is_over:
            return False
        self.place = self._said = max(self.place, piece.end)
        return self._write(piece.data)

    async def drained(self) -> None:
        """Return when there is room again, or it is over."""
        if self.is_over:
            return
        self._hold(self, self.request.unsent)
        await self.request.drained()
        self._hold(self, 0)

    async def wait(self) -> None:
        """Return when there may be something to do."""
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def wake(self) -> None:
        """Let `wait` return."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def say_something(self) -> None:
        """Write something where nothing was written for long: the place, or that it is here."""
        if self.is_over or not self.request.has_room:
            return
        if self.is_waiting and self.place > self._said:
            self._said = self.place
            self._write(events.place(self.place))
        else:
            self._write(events.COMMENT)

    def end(self, ending: Ending) -> None:
        """Have the stream end soon; the first reason counts."""
        if self._ending is not None:
            return
        self._ending = ending
        self.wake()
        if self._is_started and not self.request.has_room:
            self.request.abort()  # nobody would read it

    def close(self) -> None:
        """End the answer."""
        if self._ending in _CUT_OFF:
            self.request.abort()
        else:
            self.request.finish()

    def _leave(self) -> None:
        self.end(Ending.LEFT)

    def _write(self, data: bytes) -> bool:
        self.wrote_at = asyncio.get_running_loop().time()
        return self.request.write(data)
