"""Replays as administrators ask for them, and as the worker that copies messages reads them.

Whatever selects messages is fixed when a replay is made: the last place, and for a query the very
numbers that it found. So a replay ends, also one that copies messages into a topic that it selects
from, and nothing is evaluated for longer than a request takes.
"""

import threading
from collections.abc import Callable, Iterator
from typing import Final

from appliance.errors import LimitError, SearchBusyError
from appliance.model import timestamps
from appliance.model.seq_parts import seq_parts
from appliance.store.access_rows import Deed
from appliance.store.replay_rows import (
    ReplayChoice,
    ReplayPart,
    ReplayRow,
    ReplaySelection,
    ReplayWork,
)
from appliance.store.sql import audit_table, replay_reads, replay_table
from appliance.store.sql.database import SqlDatabase

#: Replays that are not done yet.
MAX_OPEN: Final = 100
#: Seconds for which the messages of a selection are counted.
_COUNT_SECONDS: Final = 3.0
#: Queries that are evaluated at once in this process, and seconds to wait for a turn.
_QUERIES: Final = 1
_TURN_SECONDS: Final = 2.0


class StoredReplays:
    """Writes in short transactions; `seqs_found` runs a query for numbers of messages."""

    def __init__(self, database: SqlDatabase, seqs_found: Callable[[str], Iterator[int]]) -> None:
        self._database = database
        self._words = database.words
        self._seqs_found = seqs_found
        self._looks = database.apart()
        self._queries = threading.BoundedSemaphore(_QUERIES)

    def choose(self, selection: ReplaySelection) -> ReplayChoice:
        """Return what a selection comes to now."""
        if selection.sql is not None:
            return self._by_query(selection.sql)
        wanted = selection.filter()
        with self._database.reading() as connection:
            after, until = replay_reads.bounds(
                connection, wanted, selection.first_seq, selection.last_seq
            )
            messages, is_complete = replay_reads.count(
                connection, self._words, wanted, after, until, _COUNT_SECONDS
            )
        return ReplayChoice(messages, is_complete, after, until)

    def _by_query(self, sql: str) -> ReplayChoice:
        if not self._queries.acquire(timeout=_TURN_SECONDS):
            raise SearchBusyError("another query is under way; wait until it has ended")
        try:
            parts = tuple(seq_parts(self._seqs_found(sql)))
        finally:
            self._queries.release()
        if not parts:
            return ReplayChoice(0, True, 0, 0)
        return ReplayChoice(sum(each.numbers for each in parts), True, 0, parts[-1].last, parts)

    def create(self, row: ReplayRow, choice: ReplayChoice, deed: Deed) -> ReplayRow:
        """Add a replay of a choice. Raises LimitError where too many are not done yet."""
        with self._database.writing(alone="replays") as connection:
            query = "SELECT count(*) FROM replays WHERE ended_at IS NULL"
            if connection.execute(query).fetchone()[0] >= MAX_OPEN:
                raise LimitError(f"{MAX_OPEN} replays are not done yet; wait for one of them")
            replay_table.add(connection, row, choice)
            audit_table.write(connection, deed)
            return replay_table.rows(connection, "id = ?", (row.id,), 1)[0]

    def find(self, replay_id: str) -> ReplayRow | None:
        """Return the replay with this id, or None."""
        with self._database.reading() as connection:
            found = replay_table.rows(connection, "id = ?", (replay_id,), 1)
        return found[0] if found else None

    def newest(self, limit: int) -> list[ReplayRow]:
        """Return up to `limit` replays, the newest first."""
        with self._database.reading() as connection:
            return replay_table.rows(connection, "1 = 1", (), limit)

    def set_state(self, replay_id: str, before: str, state: str, deed: Deed) -> ReplayRow | None:
        """Give a replay another state, where it has the state `before`; return it."""
        with self._database.writing(alone="replays") as connection:
            changed = connection.execute(
                "UPDATE replays SET state = ?, changed_at = ? WHERE id = ? AND state = ?",
                (state, timestamps.now(), replay_id, before),
            ).rowcount
            if changed:
                audit_table.write(connection, deed)
            found = replay_table.rows(connection, "id = ?", (replay_id,), 1)
        return found[0] if found else None

    def next_copy(self) -> ReplayWork | None:
        """Return the oldest running replay to a topic, or None."""
        with self._looks.reading() as connection:
            found = replay_table.work(connection, to_topic=True)
        return found[0] if found else None

    def part(self, work: ReplayWork, after: int, limit: int, max_bytes: int) -> ReplayPart:
        """Return the next messages of a replay behind `after`, in a read that is short."""
        with self._looks.reading() as connection:
            return replay_reads.replay_part(connection, self._words, work, after, limit, max_bytes)

    def look_away(self) -> None:
        """Close the connections of the looks; one that is in use, after its use."""
        self._looks.close()
