"""The hub of all streams of a process: who listens, how far it goes, and why a stream ends.

While somebody listens, the hub looks some times a second how far the store goes, and wakes those
for whom there is something; while nobody does, nothing is looked at. Readers are apart: each has a
place of its own, writes when its client has room, and reads from the store again when it had none.
So a slow one costs no more than what waits to be sent to it.
"""

import asyncio
import functools
from typing import TYPE_CHECKING, Any, Final

import structlog

from appliance.api.http import problems
from appliance.api.http.problems import Problem
from appliance.api.http.request import Request
from appliance.api.stream.source import StreamSource
from appliance.api.stream.stream_listener import Ending, Listener
from appliance.api.stream.stream_options import StreamOptions
from appliance.auth.authorizer import Authorizer
from appliance.auth.principal import Principal, Right
from appliance.errors import InputError, StoreError
from appliance.machine.complaint import Complaint
from appliance.model.tallies import StreamTally
from appliance.store.base import Follower

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds between two looks, while somebody listens.
_LOOK_SECONDS: Final = 0.1
#: Seconds between two frames; longer with more readers than these, so that all of them together
#: cost no more than so many.
_FRAME_SECONDS: Final = 0.25
_FRAMES_AT_ONCE: Final = 64
#: Seconds that a frame speaks of at most: what came after a long silence came just now.
_LONGEST_SPAN: Final = 1.0
#: Seconds after which something is sent on a stream that has nothing to say.
_SILENCE_SECONDS: Final = 15.0
#: Seconds between two looks for silent streams.
_TICK_SECONDS: Final = 1.0
#: Streams that only administrators can open: somebody must be able to look what goes on.
_RESERVED: Final = 16
#: Topics that are compared with what each one follows; if more have come, all are woken.
_COMPARED: Final = 64
#: Bytes that wait to be sent to slow readers together; above it, the one that has been slow for
#: longest is ended. It goes on where it was when it connects again.
_HELD_BYTES: Final = 32 * 2**20

_log: Any = structlog.get_logger(__name__)


class StreamHub:
    """All streams of a process; used on its event loop. `tally` is told how many there are."""

    def __init__(
        self, most: int, follower: Follower, authorizer: Authorizer, tally: StreamTally
    ) -> None:
        self._most = most
        self._source = StreamSource(follower)
        self._authorizer = authorizer
        self._generation = 0
        self._tally = tally
        self._listeners: set[Listener] = set()
        self._held: dict[Listener, int] = {}
        self._held_bytes = 0
        self._end = -1  # everything up to here is told to those who follow
        self._framed = -1  # and to those who get frames
        self._framed_before = -1
        self._framed_topics: set[str] | None = set()  # that came since then; None: any
        self._framed_at = 0.0
        self._span: float | None = None
        self._ticked_at = 0.0
        self._looking = asyncio.Lock()
        self._running: asyncio.Task[None] | None = None
        self._is_closed = False
        self._complaint = Complaint(_log, "streams stand still", "streams go on")

    def room_for(self, principal: Principal) -> Problem | None:
        """Return why there is no room for one more stream."""
        if self._is_closed:
            return problems.too_many_streams("the API is about to end; try again in a moment")
        reserved = 0 if principal.may(Right.ADMIN) else min(_RESERVED, self._most // 4)
        if len(self._listeners) < self._most - reserved:
            return None
        return problems.too_many_streams(
            f"{len(self._listeners)} streams are open, and there can be {self._most}; close one, "
            "or raise APPLIANCE_MAX_STREAMS"
        )

    async def serve(self, request: Request, options: StreamOptions) -> None:
        """Answer a request with a stream, until somebody ends it.

        Raises InputError for a place that does not exist, StoreError.
        """
        principal = request.admission.principal
        if problem := self.room_for(principal):
            request.refuse(problem)
            return
        listener = Listener(request, options, self._hold)
        self._listeners.add(listener)
        self._tally.open = len(self._listeners)
        try:
            listener.place = await self._begin(options)
            listener.start()
            if self._is_closed:
                listener.end(Ending.STOPPED)
            elif not self._may_go_on(listener):
                listener.end(Ending.REVOKED)
            elif self._running is None or self._running.done():
                self._running = asyncio.create_task(self._run())
            follow = self._send_messages if options.is_whole else self._send_frames
            await follow(listener)
        finally:
            self._listeners.discard(listener)
            self._tally.open = len(self._listeners)
            self._release(listener)
        listener.close()

    def stop(self) -> None:
        """End all streams, and open no more; their readers connect again."""
        self._is_closed = True
        for listener in list(self._listeners):
            listener.end(Ending.STOPPED)

    def close(self) -> None:
        """Read no more; all streams have ended."""
        if self._running is not None:
            self._running.cancel()
        self._source.close()

    # --- one stream ------------------------------------------------------------------------------

    async def _begin(self, options: StreamOptions) -> int:
        """Return where a stream begins."""
        await self._look()
        if options.after is not None:
            if options.after > self._end:
                raise InputError(
                    "after, Last-Event-ID: this cursor is later than all that is stored: it is "
                    "another database's, or that of one before a backup was restored. Begin "
                    "without it, or with after=0"
                )
            return options.after
        if options.since is not None:
            return await self._source.begin(options.since)
        return self._end

    async def _send_messages(self, listener: Listener) -> None:
        """Send every message."""
        followed, begun = listener.followed, self._end
        while not listener.is_over:
            if listener.place >= self._end:
                await listener.wait()
                continue
            if listener.place >= begun:
                followed = listener.options.followed  # what came later came since then
            batch = await self._source.messages(followed, listener.place, self._end)
            for piece in batch.pieces:
                if not listener.write(piece):
                    # The rest is read again when there is room: nothing of it is held meanwhile.
                    await listener.drained()
                    break
            else:
                listener.place = max(listener.place, batch.end)

    async def _send_frames(self, listener: Listener) -> None:
        """Send what an eye can take in: a few frames a second, each of the newest messages."""
        followed, begun = listener.followed, self._framed
        loop = asyncio.get_running_loop()
        sent_at = 0.0
        while not listener.is_over:
            upto = self._framed
            if listener.place >= upto:
                await listener.wait()
                continue
            if (pause := sent_at + _FRAME_SECONDS - loop.time()) > 0:
                await asyncio.sleep(pause)
                continue
            if listener.place >= begun:
                followed = listener.options.followed
            seconds = self._span if listener.place >= self._framed_before else None
            batch = await self._source.frame(followed, listener.place, upto, seconds)
            for piece in batch.pieces:
                sent_at = loop.time()
                if not listener.write(piece):
                    await listener.drained()
            listener.place = max(listener.place, batch.end)

    # --- all streams -----------------------------------------------------------------------------

    async def _run(self) -> None:
        """Look for what has come, and for streams that must end, while somebody listens."""
        loop = asyncio.get_running_loop()
        while self._listeners:
            await asyncio.sleep(_LOOK_SECONDS)
            now = loop.time()
            if self._generation != self._authorizer.generation:
                self._generation = self._authorizer.generation
                self._end_revoked()
            try:
                await self._look()
            except StoreError as error:
                self._complaint.fails(error=str(error))
            else:
                self._complaint.works()
            self._tell_framed(now)
            if now - self._ticked_at >= _TICK_SECONDS:
                self._ticked_at = now
                self._break_silence(now)
        self._source.forget()

    async def _look(self) -> None:
        """Learn how far it goes now, and wake those for whom there is something."""
        async with self._looking:
            is_first = self._end < 0
            wants_topics = not is_first and any(
                not each.followed.is_any for each in self._listeners
            )
            news = await self._source.news(self._end, with_topics=wants_topics)
            if news.end <= self._end:
                return
            self._end = news.end
            topics = news.topics
            if topics is not None and len(topics) > _COMPARED:
                topics = None
            if is_first:
                self._framed = news.end
            elif topics is None or self._framed_topics is None:
                self._framed_topics = None
            else:
                self._framed_topics.update(topics)
            self._wake(self._end, topics, frames=False)

    def _tell_framed(self, now: float) -> None:
        """Wake those who get frames, where something has come and the last one is long ago."""
        readers = sum(not each.options.is_whole for each in self._listeners)
        pause = _FRAME_SECONDS * max(1.0, readers / _FRAMES_AT_ONCE)
        if self._framed >= self._end or now - self._framed_at < pause:
            return
        self._span = min(max(now - self._framed_at, pause), max(pause, _LONGEST_SPAN))
        self._framed_at, self._framed_before, self._framed = now, self._framed, self._end
        topics, self._framed_topics = self._framed_topics, set()
        if topics is not None and len(topics) > _COMPARED:
            topics = None
        self._source.forget_frames()
        self._wake(self._framed, None if topics is None else frozenset(topics), frames=True)

    def _wake(self, end: int, topics: frozenset[str] | None, *, frames: bool) -> None:
        """Wake those who wait and follow one of the topics; the others are at the end already."""
        takes: Callable[[Any], bool] = functools.cache(
            lambda followed: topics is None or any(followed.takes(topic) for topic in topics)
        )
        for listener in self._listeners:
            if listener.is_waiting and listener.options.is_whole is not frames:
                if takes(listener.options.followed):
                    listener.wake()
                else:
                    listener.place = end

    def _end_revoked(self) -> None:
        for listener in list(self._listeners):
            if not self._may_go_on(listener):
                listener.end(Ending.REVOKED)

    def _may_go_on(self, listener: Listener) -> bool:
        """Whether the token still counts, or the session by whose cookie a page was let in.

        A page that is open is a use of its session.
        """
        values, principal = listener.request.head.values, listener.request.admission.principal
        if b"authorization" in values:
            return self._authorizer.holds(principal)
        return self._authorizer.session(values.get(b"cookie")) == principal

    def _break_silence(self, now: float) -> None:
        for listener in self._listeners:
            if now - listener.wrote_at >= _SILENCE_SECONDS:
                listener.say_something()

    def _hold(self, listener: Listener, size: int) -> None:
        """Count what waits for a slow reader (0: it waits no more); end one where it is too much.

        Never this one: of two that are slow, it is the one that has just read something.
        """
        self._release(listener)
        if not size:
            return
        self._held[listener] = size
        self._held_bytes += size
        while self._held_bytes > _HELD_BYTES and len(self._held) > 1:
            slowest = next(iter(self._held))
            self._release(slowest)
            slowest.end(Ending.TOO_SLOW)

    def _release(self, listener: Listener) -> None:
        self._held_bytes -= self._held.pop(listener, 0)
