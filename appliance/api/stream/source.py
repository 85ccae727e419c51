"""The reads behind all streams of a process: in one thread, each made once for all who need it.

Readers that are at one place get the same bytes: those who are up to date are always at one place,
so that what has come is read and encoded once, however many they are.
"""

import asyncio
import functools
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple, TypeVar

from appliance.api.stream import events
from appliance.api.stream.events import Piece
from appliance.model import meta as metas
from appliance.store.base import Follower
from appliance.store.rows import Followed

#: Messages that a frame shows.
_SHOWN: Final = 50
#: Bytes of events that are kept for others who come to the same place, and reads that are.
_KEPT_BYTES: Final = 4 * 2**20
_MOST_KEPT: Final = 512

_T = TypeVar("_T")


class EventBatch(NamedTuple):
    """The events behind a place, and the place at which they end.

    `may_be_kept` is false where a message has an end: it is not for those who come later.
    """

    pieces: list[Piece]
    end: int
    may_be_kept: bool = True


class News(NamedTuple):
    """The end of what is stored, and the topics of what came before it; None: not known."""

    end: int
    topics: frozenset[str] | None


class StreamSource:
    """Asks the follower; used on one event loop."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower
        self._thread = ThreadPoolExecutor(1, "streams")
        # By what is followed and the place behind which is read.
        self._kept: OrderedDict[tuple[Followed, int], asyncio.Future[EventBatch]] = OrderedDict()
        self._kept_bytes = 0
        self._frames: dict[tuple[Followed, int, int], asyncio.Future[EventBatch]] = {}

    def close(self) -> None:
        """End the thread after the read under way."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def news(self, after: int, *, with_topics: bool) -> News:
        """Return how far it goes now, and what is new behind `after`. Raises StoreError."""

        def ask() -> News:
            end = self._follower.end()
            is_asked = with_topics and end > after
            return News(end, self._follower.topics(after, end) if is_asked else None)

        return await self._ask(ask)

    async def begin(self, since: str) -> int:
        """Return a place before all that was received since then. Raises StoreError."""
        return await self._ask(functools.partial(self._follower.begin, since))

    async def messages(self, followed: Followed, after: int, upto: int) -> EventBatch:
        """Return an event for each of the first messages behind `after`. Raises StoreError."""
        key = followed, after
        future = self._kept.get(key)
        if future is None:

            def ask() -> EventBatch:
                part = self._follower.part(followed, after, upto)
                lasting = not any(metas.expires_at(row.meta) for row in part.rows)
                return EventBatch(events.pieces(part), part.end, lasting)

            future = self._kept[key] = asyncio.ensure_future(self._ask(ask))
            future.add_done_callback(functools.partial(self._keep, key))
        return await asyncio.shield(future)

    async def frame(
        self, followed: Followed, after: int, upto: int, seconds: float | None
    ) -> EventBatch:
        """Return one event for all messages behind `after`, or none for none. Raises StoreError."""
        key = followed, after, upto
        future = self._frames.get(key)
        if future is None:

            def ask() -> EventBatch:
                glance = self._follower.glance(followed, after, upto, _SHOWN)
                pieces = [events.frame(glance, seconds)] if glance.counts else []
                return EventBatch(pieces, glance.end)

            future = self._frames[key] = asyncio.ensure_future(self._ask(ask))
        return await asyncio.shield(future)

    def forget_frames(self) -> None:
        """Forget frames that were made: another span of time begins."""
        self._frames = {key: each for key, each in self._frames.items() if not each.done()}

    def forget(self) -> None:
        """Forget everything that was read."""
        self.forget_frames()
        self._kept = OrderedDict((k, each) for k, each in self._kept.items() if not each.done())
        self._kept_bytes = 0

    def _keep(self, key: tuple[Followed, int], future: asyncio.Future[EventBatch]) -> None:
        """Keep what was read for others, within the bounds; forget what failed."""
        if self._kept.get(key) is not future:
            return
        if future.cancelled() or future.exception() or not future.result().may_be_kept:
            del self._kept[key]
            return
        self._kept_bytes += _size(future)
        while self._kept_bytes > _KEPT_BYTES or len(self._kept) > _MOST_KEPT:
            oldest, each = next(iter(self._kept.items()))
            if not each.done():
                self._kept.move_to_end(oldest)
                break
            del self._kept[oldest]
            self._kept_bytes -= _size(each)

    async def _ask(self, question: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, question)


def _size(future: asyncio.Future[EventBatch]) -> int:
    return sum(len(piece.data) for piece in future.result().pieces)
