"""Replays to a topic: the thread of each worker that stores copies of the selected messages.

A piece of a replay is one transaction: its copies become rows, and its place moves behind them. So
whoever is killed meanwhile, or stops it and goes on, each copy becomes one row. All workers look;
where two see the same piece, the transaction of the second one finds the place moved and stores
nothing. The database's writer is left alone after each piece, for twice as long as the piece took.
"""

import time
from collections.abc import Callable
from typing import Any, Final

import structlog

from appliance.lookout import Lookout
from appliance.machine.complaint import Complaint
from appliance.machine.ticks import until_tick
from appliance.model import meta as metas
from appliance.model import timestamps
from appliance.model.contents import ReplayCopies
from appliance.model.ids import key_prefix
from appliance.model.wire import Message, as_text, pack
from appliance.store.base import Writer
from appliance.store.replay_rows import ReplayPart, ReplayWork
from appliance.store.replays import Replays
from appliance.store.rows import StoredMessage

#: Messages of one piece, and bytes of their bodies.
_PIECE_ROWS: Final = 250
_PIECE_BYTES: Final = 2**20
#: Seconds between two looks for a replay, and after a piece that another worker was quicker with.
_LOOK_SECONDS: Final = 1.0
_ELSEWHERE_SECONDS: Final = 5.0
#: The writer is left alone for this many times as long as it was held, and for these seconds at
#: least.
_PAUSE_FACTOR: Final = 2.0
_LEAST_PAUSE: Final = 0.005

_log: Any = structlog.get_logger(__name__)


class ReplayCopier(Lookout):
    """Copies in a thread of the worker, once `wake` was called.

    `lacking` says which disk is too full to store more on; empty where none is.
    """

    def __init__(
        self,
        replays: Replays,
        open_writer: Callable[[], Writer],
        lacking: Callable[[], str] = lambda: "",
    ) -> None:
        super().__init__(Complaint(_log, "replaying failed", "replaying works again"))
        self._replays = replays
        self._open_writer = open_writer
        self._lacking = lacking
        self._full = Complaint(_log, "replay waits for space", "replay has space again")
        self._expected: tuple[str, int] | None = None  # the replay at work, and its place

    def _look(self) -> float:
        return self._copy() if self._replays.next_copy() else until_tick(_LOOK_SECONDS)

    def _close(self) -> None:
        self._replays.look_away()

    def _copy(self) -> float:
        """Store pieces as long as there are any; return the seconds until the next look."""
        writer = self._open_writer()
        try:
            while not self._stopping.is_set() and (work := self._replays.next_copy()):
                place = (work.id, work.cursor)
                if self._expected not in (None, place) and self._expected[0] == work.id:
                    self._expected = None
                    return _ELSEWHERE_SECONDS  # another worker is at it
                if lacks := self._lacking():
                    self._full.fails(reason=lacks)
                    return _ELSEWHERE_SECONDS
                self._full.works()
                part = self._replays.part(work, work.cursor, _PIECE_ROWS, _PIECE_BYTES)
                began = time.monotonic()
                writer.store([copies(work, part)])
                held = time.monotonic() - began
                self._expected = (work.id, part.end)
                if part.end >= work.until:
                    self._expected = None
                    _log.info("replay done", replay=work.id, topic=work.target)
                self._stopping.wait(max(_LEAST_PAUSE, _PAUSE_FACTOR * held))
        finally:
            writer.close()
        return _LOOK_SECONDS


def copies(work: ReplayWork, part: ReplayPart) -> ReplayCopies:
    """Return what a piece of a replay becomes: messages of its topic that say where they are from.

    The id of each follows from the replay and the message, so that the same copy is the same
    message to the store.
    """
    now = timestamps.now()
    messages = [_copy_of(work, row, now) for row in part.rows]
    size = sum(len(row.body) for row in part.rows)
    envelope = pack(work.target, messages, size) if messages else None
    return ReplayCopies(work.id, work.cursor, part.end, len(messages), part.gone, envelope)


def _copy_of(work: ReplayWork, row: StoredMessage, now: str) -> Message:
    source = {
        "id": work.id, "of": row.id, "topic": row.topic, "received_at": row.received_at,
    }  # fmt: skip
    body = as_text(row.body) if row.text else row.body
    message_id = key_prefix(work.target, f"replay {work.id} {row.id}") + "00000000"
    return Message(message_id, now, body, row.content_type, _meta(row.meta, source))


def _meta(text: str | None, source: dict[str, str]) -> str | None:
    """Return the meta of a copy; one that another program broke, or that has no room, is left."""
    members = {"replay": source}
    try:
        return metas.extended(text if metas.is_sound(text) else None, members)
    except (ValueError, TypeError, AttributeError):
        return metas.extended(None, members)
