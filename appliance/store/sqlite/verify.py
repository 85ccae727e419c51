"""Checks of the whole database: structure, counters, dead letters, ledger.

Nothing is written, and no transaction outlives one check, so a verification can run beside a busy
appliance. Each check compares within one snapshot.
"""

import time
from pathlib import Path
from typing import Any, Final

from appliance.errors import StoreError
from appliance.model import ledger
from appliance.store.base import StepTimer
from appliance.store.sqlite import (
    index_check,
    integrity,
    ledger_table,
    migrations,
    paths,
    schema_check,
)
from appliance.store.sqlite.database import connect, sqlite3, store_error
from appliance.store.sqlite.recount import agree
from appliance.store.verification import (
    DeadLetterSums,
    Integrity,
    LedgerGap,
    LedgerSums,
    MessageSums,
    Verification,
    WrongCounter,
)

#: Errors of `integrity_check` that are reported; a damaged file repeats the same one endlessly.
_MOST_ERRORS: Final = 20
#: Topics and sources that are reported one by one.
_MOST_NAMED: Final = 20
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
_SOURCES: Final = """
    SELECT source, accounted, settled, not_kept, missing, accepted, first_at, last_at
    FROM sources ORDER BY first_at, source
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
        result.messages = self._messages()
        if result.messages.wrong_counters:
            result.problems.append(
                f"topics with wrong counters: {result.messages.wrong_counters:,}; the janitor "
                "corrects them within minutes, `appliance verify --repair` at once"
            )
        result.dead_letters = self._dead_letters()
        if result.dead_letters.also_stored:
            # No fault: a process was killed between a redrive's publish and the letter's removal.
            result.notes.append(
                "dead letters whose message is also stored, left by an interrupted redrive; "
                f"discard them: {result.dead_letters.also_stored:,}"
            )
        result.notes += self._restores()
        self._begin("search index")
        if fault := index_check.compare(self._path, self._connection):
            result.notes.append(
                f"the search index is damaged ({fault}); no message is: "
                "`appliance verify --repair` has the janitor make it anew"
            )
        result.sources = self._sources(result.problems)
        _judge(result, result.sources)

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

    def _messages(self) -> MessageSums:
        self._begin("counters")
        rows = size = topics = wrong_counters = 0
        wrong: list[WrongCounter] = []
        names = ("messages", "bytes", "first_at", "last_at")
        for topic, *values in self._connection.execute(_COUNTERS):
            counter, actual = values[:4], values[4:]
            rows, size, topics = rows + actual[0], size + actual[1], topics + 1
            if not agree(counter, actual):
                wrong_counters += 1
                if len(wrong) < _MOST_NAMED:
                    both = (dict(zip(names, side, strict=True)) for side in (counter, actual))
                    wrong.append(WrongCounter(topic, *both))
        return MessageSums(rows, size, topics, wrong_counters, wrong)

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

    def _dead_letters(self) -> DeadLetterSums:
        self._begin("dead letters")
        by_reason = dict(
            self._connection.execute(
                "SELECT reason, count(*) FROM dead_letters GROUP BY reason ORDER BY reason"
            ).fetchall()
        )
        also_stored = self._connection.execute(_ALSO_STORED).fetchone()[0]
        return DeadLetterSums(sum(by_reason.values()), by_reason, also_stored)

    def _sources(self, problems: list[str]) -> LedgerSums:
        self._begin("ledger")
        sums = LedgerSums(0, 0, 0, 0, 0, 0, [])
        for source, text, settled, *counts, first_at, last_at in self._connection.execute(_SOURCES):
            not_kept, missing, accepted = counts
            try:
                accounted = ledger_table.ranges(text)
            except StoreError as error:
                problems.append(f"source {source}: {error}")
                continue
            lost = ledger.holes(accounted, 0, settled)
            unknown = ledger.holes(accounted, settled, accounted[-1][1] if accounted else 0)
            sums.total += 1
            sums.accounted += ledger.count(accounted)
            sums.not_kept += not_kept
            sums.missing += missing
            sums.accepted += accepted
            sums.unknown += ledger.count(unknown)
            if missing or unknown:
                pairs = (missing, lost[-_MOST_NAMED:], ledger.count(unknown), unknown)
                sums.gaps.append(LedgerGap(source, *pairs, first_at, last_at))
        sums.gaps = sorted(sums.gaps, key=lambda gap: -gap.missing)[:_MOST_NAMED]
        return sums


def _judge(result: Verification, sources: LedgerSums) -> None:
    """Add what the ledger means."""
    if sources.missing:
        result.problems.append(missing_text(sources.missing))
    if sources.accepted:
        result.notes.append(f"envelopes that were missing, accepted as such: {sources.accepted:,}")


def missing_text(count: int) -> str:
    """Return the problem of so many missing envelopes."""
    return (
        f"envelopes missing: {count:,}; the broker had confirmed them, and they never came to the "
        "store"
    )
