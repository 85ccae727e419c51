"""Checks of the whole database: structure, counters, dead letters, ledger.

Nothing is written, and no transaction outlives one check, so a verification can run beside a busy
appliance. Each check compares within one snapshot.
"""

import time
from pathlib import Path
from typing import Any, Final

from appliance.errors import StoreError
from appliance.store.base import StepTimer
from appliance.store.sql import sums
from appliance.store.sqlite import (
    index_check,
    integrity,
    migrations,
    paths,
    schema_check,
)
from appliance.store.sqlite.database import connect, sqlite3, store_error
from appliance.store.verification import Integrity, Verification

#: Errors of `integrity_check` that are reported; a damaged file repeats the same one endlessly.
_MOST_ERRORS: Final = 20
#: Steps of SQLite's machine between two looks at the clock: a few milliseconds.
_STEPS: Final = 100_000
#: Seconds between two signs of progress.
_TICK: Final = 0.2
#: Bytes by which the write-ahead log may grow while one check holds its snapshot.
_WAL_GROWTH: Final = 2**30

_COUNTERS: Final = """
    SELECT coalesce(t.topic, m.topic),
        coalesce(t.messages, 0), coalesce(t.bytes, 0), t.first_at, t.last_at,
        coalesce(m.messages, 0), coalesce(m.bytes, 0), m.first_at, m.last_at
    FROM topics AS t FULL JOIN (
        SELECT topic, count(*) AS messages, sum(octet_length(body)) AS bytes,
            min(received_at) AS first_at, max(received_at) AS last_at
        FROM messages GROUP BY topic
    ) AS m ON m.topic = t.topic
"""
_ALSO_STORED: Final = """
    SELECT count(*) FROM dead_letters AS d JOIN messages AS m
    ON m.id = d.id AND m.topic = d.topic AND CAST(m.body AS BLOB) = CAST(d.body AS BLOB)
"""


def verify(path: Path, *, quick: bool, alone: bool, progress: StepTimer) -> Verification:
    """Check the database at `path`.

    `quick` leaves out the comparison of every index entry with its row. `alone` says that nothing
    else uses the file. Raises StoreError where it can't be opened, or where the write-ahead log
    would grow too large meanwhile.
    """
    untouched = alone and not paths.wal(path).exists()
    connection = connect(path, readonly=True, immutable=untouched)
    try:
        return _Verifier(connection, path, progress).run(quick=quick)
    except sqlite3.Error as error:
        raise store_error(error, path) from error
    finally:
        connection.close()


class _Verifier:
    def __init__(self, connection: Any, path: Path, progress: StepTimer) -> None:
        self._connection = connection
        self._path = path
        self._progress = progress
        self._step = ""
        self._began = self._shown = 0.0
        self._wal_at_first = 0
        self._stopped: StoreError | None = None
        connection.set_progress_handler(self._tick, _STEPS)

    def run(self, *, quick: bool) -> Verification:
        result = Verification(str(self._path), *migrations.versions(self._connection))
        try:
            result.integrity = self._integrity("quick_check" if quick else "integrity_check")
            if result.integrity.errors:
                result.problems.append(
                    f"the file is damaged ({result.integrity.errors[0]}); appliance backup "
                    "--rescue copies all that can be read; restore that copy, or a backup"
                )
                return result
            if result.schema != result.schema_wanted:
                result.problems.append(
                    f"schema {result.schema}, this program's is {result.schema_wanted}; "
                    + ("run appliance migrate" if result.schema < result.schema_wanted
                       else "use the newer program")
                )  # fmt: skip
                return result
            result.problems += result.integrity.objects
            result.yours += result.integrity.yours
            self._check_content(result)
        except sqlite3.DatabaseError as error:
            if self._stopped is not None:
                raise self._stopped from error
            if not result.problems:  # else tables that are gone or changed can't be asked
                raise
        return result

    def _check_content(self, result: Verification) -> None:
        self._begin("counters")
        result.messages = sums.message_sums(self._connection.execute(_COUNTERS))
        sums.judge_counters(result, result.messages)
        self._begin("dead letters")
        result.dead_letters = sums.dead_letter_sums(self._connection, _ALSO_STORED)
        sums.judge_letters(result, result.dead_letters)
        result.notes += self._restores()
        self._begin("search index")
        if fault := index_check.compare(self._path, self._connection):
            result.notes.append(
                f"the search index is damaged ({fault}); no message is: "
                "`appliance verify --repair` has the janitor make it anew"
            )
        self._begin("ledger")
        result.sources = sums.ledger_sums(self._connection, result.problems)
        sums.judge_ledger(result, result.sources)

    def _begin(self, step: str) -> None:
        self._step, self._began, self._shown = step, time.monotonic(), 0.0
        self._wal_at_first = paths.size(paths.wal(self._path))
        self._progress(step, 0.0)

    def _tick(self) -> int:
        """Show progress; end a check that keeps the write-ahead log from being emptied."""
        now = time.monotonic()
        if now - self._shown < _TICK:
            return 0
        self._shown = now
        self._progress(self._step, now - self._began)
        if paths.size(paths.wal(self._path)) - self._wal_at_first <= _WAL_GROWTH:
            return 0
        self._stopped = StoreError(
            f"{self._path}: so much is written that the write-ahead log grew by "
            f"{_WAL_GROWTH >> 20} MiB during one check; verify a backup instead"
        )
        return 1

    def _integrity(self, check: str) -> Integrity:
        self._begin("structure")
        sound = integrity.check(self._connection, check, _MOST_ERRORS)
        if sound.errors:
            return Integrity(check, ok=False, errors=sound.errors, objects=[], yours=[])
        schema = schema_check.examine(self._connection)
        yours = schema.yours + sound.unchecked
        return Integrity(check, not schema.wrong, [], schema.wrong, yours)

    def _restores(self) -> list[str]:
        """Return a note for each restore that left messages in the replaced database."""
        rows = self._connection.execute(
            "SELECT restored_at, left_messages, left_dead_letters, replaced FROM restores "
            "WHERE left_messages > 0 OR left_dead_letters > 0 ORDER BY restored_at"
        )
        return [
            f"the restore of {at} left {count:,} messages and {dead:,} dead letters in {replaced}"
            for at, count, dead, replaced in rows
        ]
