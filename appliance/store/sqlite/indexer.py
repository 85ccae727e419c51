"""Fills the full-text index in the background, in small chunks: newest messages first.

Only the index's own file is written, and of the database's only the list of changed rows. While
messages come in, the indexer rests for most of the time; a search reads the rows that are not
indexed yet itself.
"""

# ruff: noqa: S608  # the SQL is put together from texts of this module, and values are bound

import contextlib
import time
from pathlib import Path
from typing import Any, Final

import structlog

from appliance.errors import StoreError
from appliance.machine import disk_space, heap
from appliance.machine.complaint import Complaint
from appliance.model.search_words import LONGEST_JSON, plain_words, searchable
from appliance.store.base import Duty, Rest
from appliance.store.sqlite import index_file, open_files, paths, search_index, wal_index
from appliance.store.sqlite.database import connect, sqlite3, store_error
from appliance.store.sqlite.index_file import Entry, IndexFailedError, IndexFile
from appliance.store.sqlite.search_index import EVERYTHING, IndexProgress

#: Seconds between two looks for new messages; and for which one run goes on, so that the janitor's
#: other duties get their turn.
_EVERY: Final = 1.0
_RUN: Final = 1.0
#: Seconds until it is tried again, and between two looks whether it was switched on.
_AGAIN: Final = 60.0
#: Rows and bytes of bodies of one transaction.
_CHUNK_ROWS: Final = 500
_CHUNK_BYTES: Final = 2**20
#: Changed rows that are taken up, or forgotten, in one transaction.
_CHANGES: Final = 500
#: Rest after a chunk, in times as long as it took: while many messages come in, and otherwise.
_REST_BUSY: Final = 39.0
_REST_IDLE: Final = 1.0
_LEAST_REST: Final = 0.005
#: Messages in a second from which on many come in.
_BUSY_RATE: Final = 500.0
#: Messages after which the memory that their words took is given back.
_MANY: Final = 10_000
#: KiB of page cache for the database, of which each row is read once.
_CACHE_KIB: Final = 2000
#: What must stay free on the disk, in times of the floor below which no message is taken.
_FLOORS: Final = 2

_TEXT: Final = (
    f"CASE typeof(body) WHEN 'text' THEN CAST(substr(body, 1, {LONGEST_JSON}) AS BLOB) END"
)
_COLUMNS: Final = f"seq, topic, {_TEXT}"
_LATER: Final = f"SELECT {_COLUMNS} FROM messages WHERE seq > ? ORDER BY seq LIMIT ?"
_EARLIER: Final = f"SELECT {_COLUMNS} FROM messages WHERE seq < ? ORDER BY seq DESC LIMIT ?"
_ONE: Final = f"SELECT {_COLUMNS} FROM messages WHERE seq = ?"

_log: Any = structlog.get_logger(__name__)


class Indexer:
    """Keeps the index of the database at `path`; used by one thread."""

    def __init__(self, path: Path, *, is_on: bool, floor: int, rest: Rest) -> None:
        self._path = path
        self._index_path = paths.search_index(path)
        self._is_on = is_on
        self._floor = _FLOORS * floor
        self._rest = rest
        self._index: IndexFile | None = None
        self._seen: tuple[float, int] | None = None  # when it was looked, and the newest row then
        self._is_complete = True
        self._complete_at: object = None  # the state in which all was indexed
        self._added = 0
        self._made_anew = -_AGAIN

    def duty(self) -> Duty:
        """Return the janitor's duty."""
        complaint = Complaint(_log, "search index not filled", "search index is filled again")
        return Duty(self.run, _AGAIN, complaint)

    def run(self) -> float:
        """Index for a second at most; return the seconds until the next look. Raises StoreError."""
        state = self._state()
        if state is not None and state == self._complete_at:
            return _EVERY
        self._complete_at = None
        try:
            database = connect(self._path, readonly=False)
            try:
                database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
                return self._run(database, state) if self._is_on else self._stay_off(database)
            finally:
                database.close()
        except IndexFailedError as error:
            self._close()
            # One that fails again at once is not made anew for ever.
            if not error.is_damage or time.monotonic() < self._made_anew + _AGAIN:
                raise StoreError(str(error)) from error
            self._start_anew(str(error))
            return 0.0
        except sqlite3.Error as error:
            raise store_error(error, self._path) from error

    def _state(self) -> object:
        """Return a value that every change of either file changes; None: they must be looked at."""
        log = wal_index.read(self._path)
        if log is None or self._index is None or paths.damaged_mark(self._index_path).exists():
            return None
        try:
            index = self._index_path.stat()
        except OSError:
            return None
        database = open_files.identity(self._path)
        return database, log, index.st_dev, index.st_ino, index.st_size, index.st_mtime_ns

    def _run(self, database: Any, state: object) -> float:
        if paths.damaged_mark(self._index_path).exists():
            self._start_anew("a search could not read it")
        lacks = disk_space.disk(self._path.parent, "the data's disk", self._floor, 0).lacks
        if lacks and not paths.size(self._index_path):
            self._forget_changes(database)
            raise StoreError(f"no room for the search index: {lacks}")
        index, progress = self._open(database)
        rest, end = self._pace(database), time.monotonic() + _RUN
        while time.monotonic() < end:
            began = time.monotonic()
            later = self._take_up_changes(database, index, progress)
            if later is None and lacks:  # what was deleted goes all the same: it makes room
                raise StoreError(f"no room for the search index: {lacks}")
            later = later or self._extend(database, index, progress)
            if later is None:
                self._complete(state)
                return _EVERY
            progress = later
            if self._rest(rest * (time.monotonic() - began)):
                break
        return 0.0

    def _open(self, database: Any) -> tuple[IndexFile, IndexProgress]:
        """Return the index, made anew where it is not one of this database."""
        if self._index is not None and not self._index.is_there():
            self._close()
        if self._index is None:
            self._index = IndexFile(self._index_path)
        progress = self._index.progress()
        if progress is None or not search_index.fits(progress, database):
            self._close()
            index_file.remove(self._index_path)
            self._index = IndexFile(self._index_path)
            row = database.execute("SELECT seq, id FROM messages ORDER BY seq DESC LIMIT 1")
            newest, newest_id = row.fetchone() or (0, None)
            identity = search_index.identity_of(database) or ""
            progress = self._index.begin(IndexProgress(identity, newest + 1, newest, newest_id))
            self._is_complete = False
        return self._index, progress

    def _pace(self, database: Any) -> float:
        """Return how many times as long as it works the indexer rests."""
        newest = database.execute("SELECT max(seq) FROM messages").fetchone()[0] or 0
        now = time.monotonic()
        seen, self._seen = self._seen, (now, newest)
        if seen is None:  # it is not known yet how many come in
            return _REST_BUSY
        then, last = seen
        is_busy = newest - last > _BUSY_RATE * max(now - then, _EVERY / 2)
        return _REST_BUSY if is_busy else _REST_IDLE

    def _take_up_changes(
        self, database: Any, index: IndexFile, progress: IndexProgress
    ) -> IndexProgress | None:
        """Bring rows that were changed or deleted up to date; None where there are none."""
        changes = database.execute(
            "SELECT number, seq FROM search_changes ORDER BY number LIMIT ?", (_CHANGES,)
        ).fetchall()
        if not changes:
            return None
        seqs = sorted({seq for _, seq in changes if progress.low <= seq <= progress.high})
        rows = [database.execute(_ONE, (seq,)).fetchone() for seq in seqs]
        index.correct(seqs, [_entry(row) for row in rows if row is not None])
        # The index is on disk with the changes before they are forgotten here.
        database.execute("DELETE FROM search_changes WHERE number <= ?", (changes[-1][0],))
        return progress

    def _extend(
        self, database: Any, index: IndexFile, progress: IndexProgress
    ) -> IndexProgress | None:
        """Add messages: those stored since, and older ones; None where all are indexed."""
        entries = _read(database, _LATER, progress.high)
        if entries:
            high = entries[-1][0]
            row = database.execute("SELECT id FROM messages WHERE seq = ?", (high,)).fetchone()
            progress = progress._replace(high=high, high_id=row[0] if row else None)
        elif progress.low == EVERYTHING:
            return None
        # A few that come in all the time don't keep the older ones out.
        if len(entries) < _CHUNK_ROWS // 2 and progress.low != EVERYTHING:
            older = _read(database, _EARLIER, progress.low)
            progress = progress._replace(low=older[-1][0] if older else EVERYTHING)
            entries += older
        index.add(sorted(entries), progress)
        self._added += len(entries)
        return progress

    def _complete(self, state: object) -> None:
        self._complete_at = state
        if not self._is_complete:
            _log.info("search index complete", messages=self._added)
            self._is_complete = True
        if self._added >= _MANY:
            heap.give_back()
        self._added = 0

    def _start_anew(self, reason: str) -> None:
        _log.warning("search index made anew", reason=reason)
        self._close()
        index_file.remove(self._index_path)
        self._is_complete = False
        self._made_anew = time.monotonic()

    def _stay_off(self, database: Any) -> float:
        self._close()
        index_file.remove(self._index_path)
        self._forget_changes(database)
        return _AGAIN

    def _forget_changes(self, database: Any) -> None:
        while database.execute(
            "DELETE FROM search_changes WHERE number IN "
            "(SELECT number FROM search_changes ORDER BY number LIMIT ?)",
            (_CHANGES,),
        ).rowcount:
            if self._rest(_LEAST_REST):
                return

    def _close(self) -> None:
        if self._index is not None:
            self._index.close()
            self._index = None


def _read(database: Any, query: str, place: int) -> list[Entry]:
    """Return the next rows beyond a place, as they are indexed; a chunk is bounded in bytes."""
    entries: list[Entry] = []
    size = 0
    with contextlib.closing(database.execute(query, (place, _CHUNK_ROWS))) as cursor:
        for row in cursor:
            entries.append(_entry(row))
            size += len(row[2] or b"")
            if size > _CHUNK_BYTES:
                break
    return entries


def _entry(row: tuple[int, str, bytes | None]) -> Entry:
    seq, topic, body = row
    return (
        seq,
        topic,
        None if body is None else plain_words(searchable(body.decode(errors="replace"))),
    )
