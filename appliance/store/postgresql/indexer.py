"""Fills the full-text index in the background, in small chunks: newest messages first.

While messages come in, the indexer rests for most of the time; a search reads the rows that are not
indexed yet itself. Of several janitors one fills it.
"""

# ruff: noqa: S608  # the SQL is put together from texts of this module, and values are bound

import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import orjson
import psycopg
import structlog

from appliance.errors import OldPrimaryError
from appliance.machine.complaint import Complaint
from appliance.model.search_words import LONGEST_JSON
from appliance.store.base import Duty, Rest
from appliance.store.postgresql import search_table
from appliance.store.postgresql.connections import PostgresConnection, store_error
from appliance.store.postgresql.hosts import Hosts
from appliance.store.postgresql.search_table import EVERYTHING, VERSION, WordsProgress

#: Seconds between two looks for new messages; and for which one run goes on, so that the janitor's
#: other duties get their turn.
_EVERY: Final = 1.0
_RUN: Final = 1.0
#: Seconds until it is tried again, and between two looks whether it was switched on, or whether
#: another janitor has left it.
_AGAIN: Final = 60.0
_OTHERS: Final = 10.0
#: Rows and bytes of bodies of one transaction.
_CHUNK_ROWS: Final = 500
_CHUNK_BYTES: Final = 2**20
#: Rest after a chunk, in times as long as it took: while many messages come in, and otherwise.
_REST_BUSY: Final = 39.0
_REST_IDLE: Final = 1.0
#: Messages in a second from which on many come in.
_BUSY_RATE: Final = 500.0
#: A number of ours for an advisory lock: it is held by the janitor that fills the index.
_LOCK: Final = 0x61_70_70_6D

_NEWEST: Final = "SELECT coalesce((SELECT max(seq) FROM messages), 0)"
#: A chunk of rows: the sizes are known without reading the bodies, and those behind the bytes that
#: are allowed are not read.
_READ: Final = f"""
    SELECT seq, topic, left(body, {LONGEST_JSON}) FROM (
        SELECT seq, topic, body, sum(coalesce(octet_length(body), 0))
            OVER (ORDER BY seq {{order}} ROWS UNBOUNDED PRECEDING) AS size_with,
            coalesce(octet_length(body), 0) AS size
        FROM messages WHERE {{where}} ORDER BY seq {{order}} LIMIT {_CHUNK_ROWS}
    ) AS chunk WHERE size_with - size <= {_CHUNK_BYTES} ORDER BY seq {{order}}
"""
_LATER: Final = _READ.format(where="seq > ?", order="ASC")
_EARLIER: Final = _READ.format(where="seq < ?", order="DESC")
_THESE: Final = _READ.format(where="seq = ANY(?::bigint[])", order="ASC")
_ADD: Final = """
    INSERT INTO search_words (seq, words)
    SELECT (each ->> 0)::bigint, array_to_tsvector(
        ARRAY(SELECT word FROM jsonb_array_elements_text(each -> 1) AS word)
    ) FROM jsonb_array_elements(?::jsonb) AS each
    ON CONFLICT (seq) DO UPDATE SET words = excluded.words
"""
#: First they are taken, then the rows are read: who changes one now waits, and notes it anew.
_TAKE_CHANGES: Final = f"""
    DELETE FROM search_changes WHERE seq IN (
        SELECT seq FROM search_changes ORDER BY seq LIMIT {_CHUNK_ROWS}
    ) RETURNING seq
"""
#: Words of messages that were deleted while they were indexed.
_SWEEP: Final = """
    DELETE FROM search_words WHERE seq >= ? AND seq <= ?
    AND NOT EXISTS (SELECT 1 FROM messages WHERE messages.seq = search_words.seq)
"""

_log: Any = structlog.get_logger(__name__)


class SearchIndexer:
    """Keeps the full-text index of the database; used by one thread."""

    def __init__(self, hosts: Hosts, *, is_on: bool, rest: Rest) -> None:
        self._hosts = hosts
        self._is_on = is_on
        self._rest = rest
        self._connection: PostgresConnection | None = None
        self._seen: tuple[float, int] | None = None  # when it was looked, and the newest row then
        self._swept: list[tuple[int, int]] = []  # what the run before this one has indexed
        self._is_complete = True
        self._added = 0

    def duty(self) -> Duty:
        """Return the janitor's duty."""
        complaint = Complaint(_log, "search index not filled", "search index is filled again")
        return Duty(self.run, _AGAIN, complaint)

    def close(self) -> None:
        """Close the connection, and leave the index to another janitor."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.release()

    def run(self) -> float:
        """Index for a second at most; return the seconds until the next look. Raises StoreError."""
        try:
            if self._connection is None:
                self._connection = self._hosts.connect(readonly=False)
                self._seen = None
            self._hosts.refuse_old(self._connection)
            connection = self._connection
            query = f"SELECT pg_try_advisory_lock({_LOCK})"
            if self._seen is None and not connection.execute(query).fetchone()[0]:
                self._drop()
                return _OTHERS
            return self._run(connection) if self._is_on else self._stay_off(connection)
        except OldPrimaryError:
            self._drop()
            raise
        except psycopg.Error as error:
            self._drop()
            raise store_error(error, self._hosts.url) from error

    def _drop(self) -> None:
        """Close a connection that is of no use."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _run(self, connection: PostgresConnection) -> float:
        progress = self._progress(connection)
        rest, end = self._pace(connection), time.monotonic() + _RUN
        for low, high in self._swept:
            connection.execute(_SWEEP, (low, high))
        self._swept.clear()
        while time.monotonic() < end:
            began = time.monotonic()
            if not self._take_up_changes(connection, progress):
                later = self._extend(connection, progress)
                if later is None:
                    self._complete()
                    return _EVERY
                progress = later
            if self._rest(rest * (time.monotonic() - began)):
                break
        return 0.0

    def _progress(self, connection: PostgresConnection) -> WordsProgress:
        """Return how far the index is; it is begun anew where it has another form."""
        progress = search_table.read_progress(connection)
        if progress is None:
            with _writing(connection):
                connection.execute("TRUNCATE search_words, search_changes, search_progress")
                newest = connection.execute(_NEWEST).fetchone()[0]
                progress = WordsProgress(newest + 1, newest)
                connection.execute(
                    "INSERT INTO search_progress (one, version, low, high) VALUES (1, ?, ?, ?)",
                    (VERSION, *progress),
                )
            self._is_complete = False
        return progress

    def _pace(self, connection: PostgresConnection) -> float:
        """Return how many times as long as it works the indexer rests."""
        newest = connection.execute(_NEWEST).fetchone()[0]
        now = time.monotonic()
        seen, self._seen = self._seen, (now, newest)
        if seen is None:  # it is not known yet how many come in
            return _REST_BUSY
        then, last = seen
        is_busy = newest - last > _BUSY_RATE * max(now - then, _EVERY / 2)
        return _REST_BUSY if is_busy else _REST_IDLE

    def _take_up_changes(self, connection: PostgresConnection, progress: WordsProgress) -> bool:
        """Bring rows that were changed up to date; return whether there were any."""
        with _writing(connection):
            taken = [seq for (seq,) in connection.execute(_TAKE_CHANGES)]
            left = sorted(seq for seq in taken if progress.low <= seq <= progress.high)
            while left:
                rows = connection.execute(_THESE, (left,)).fetchall()
                if not rows:
                    break  # they were deleted
                self._add(connection, rows)
                left = [seq for seq in left if seq > rows[-1][0]]
            return bool(taken)

    def _extend(
        self, connection: PostgresConnection, progress: WordsProgress
    ) -> WordsProgress | None:
        """Add messages: those stored since, and older ones; None where all are indexed."""
        with _writing(connection):
            rows = connection.execute(_LATER, (progress.high,)).fetchall()
            if rows:
                progress = progress._replace(high=rows[-1][0])
            elif progress.low == EVERYTHING:
                return None
            # A few that come in all the time don't keep the older ones out.
            if len(rows) < _CHUNK_ROWS // 2 and progress.low != EVERYTHING:
                older = connection.execute(_EARLIER, (progress.low,)).fetchall()
                progress = progress._replace(low=older[-1][0] if older else EVERYTHING)
                rows += older
            self._add(connection, rows)
            connection.execute("UPDATE search_progress SET low = ?, high = ?", progress)
        self._added += len(rows)
        return progress

    def _add(self, connection: PostgresConnection, rows: list[tuple[int, str, str | None]]) -> None:
        if rows:
            entries = [(seq, search_table.lexemes(topic, body)) for seq, topic, body in rows]
            connection.execute(_ADD, (orjson.dumps(entries).decode(),))
            seqs = [seq for seq, *_ in rows]
            self._swept.append((min(seqs), max(seqs)))

    def _complete(self) -> None:
        if not self._is_complete:
            _log.info("search index complete", messages=self._added)
            self._is_complete = True
        self._added = 0

    def _stay_off(self, connection: PostgresConnection) -> float:
        self._seen = (time.monotonic(), 0)  # the lock is held
        if connection.execute("SELECT EXISTS (SELECT 1 FROM search_progress)").fetchone()[0]:
            connection.execute("TRUNCATE search_words, search_changes, search_progress")
        else:
            connection.execute("DELETE FROM search_changes")
        return _AGAIN


@contextmanager
def _writing(connection: PostgresConnection) -> Iterator[None]:
    """Make a transaction of the block, which a power cut may undo: the index can be made anew."""
    connection.execute("BEGIN")
    try:
        connection.execute("SET LOCAL synchronous_commit = 'off'")
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(psycopg.Error):
            connection.execute("ROLLBACK")
        raise
