"""Hold the database to its own word: structure, counters, dead letters, numbers of envelopes.

Nothing is written, and no transaction outlives one check, so it can run beside a busy appliance.
Each check compares what belongs together within one snapshot.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from appliance.errors import StoreError
from appliance.model import ledger
from appliance.model.ledger import LedgerEntry, Ranges
from appliance.store.sqlite import migrations, sources
from appliance.store.sqlite.connection import connect, sqlite3, store_error

#: What `integrity_check` finds is told up to here; a damaged file says the same a thousand times.
_MOST_ERRORS: Final = 20
#: Topics and sources that are named one by one.
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


@dataclass
class Integrity:
    """What SQLite says of the file; `objects` are tables and indexes that are gone or changed."""

    check: str
    ok: bool
    errors: list[str]
    objects: list[str]


@dataclass
class WrongCounter:
    """A topic whose counters (`kept`) are not those of its rows (`true`)."""

    topic: str
    kept: dict[str, Any]
    true: dict[str, Any]


@dataclass
class Messages:
    """What the rows add up to, and the counters that say otherwise."""

    rows: int
    bytes: int
    topics: int
    wrong_counters: int
    wrong: list[WrongCounter]


@dataclass
class DeadLetters:
    """How many there are; `also_stored` are those that are a row of `messages` as well."""

    total: int
    by_reason: dict[str, int]
    also_stored: int


@dataclass
class Gap:
    """A source whose numbers have gaps: `missing` were confirmed, of `unknown` nobody knows."""

    source: str
    missing: int
    missing_ranges: Ranges
    unknown: int
    unknown_ranges: Ranges
    first_at: str
    last_at: str


@dataclass
class Sources:
    """What became of all numbered envelopes."""

    total: int
    accounted: int
    not_kept: int
    missing: int
    unknown: int
    accepted: int
    gaps: list[Gap]


@dataclass
class Findings:
    """The outcome; a part is None where it could not be looked at. `problems` are sentences."""

    database: str
    schema: int
    schema_wanted: int
    integrity: Integrity | None = None
    messages: Messages | None = None
    dead_letters: DeadLetters | None = None
    sources: Sources | None = None
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


#: Called with the step's name and the seconds it has taken so far.
Progress = Callable[[str, float], None]


def verify(path: Path, *, quick: bool, alone: bool, progress: Progress) -> Findings:
    """Check the database at `path`.

    `quick` leaves out what needs every index entry compared with its row. `alone` says that the
    file is a copy that nothing else uses. Raises StoreError where it can't be opened, or where the
    write-ahead log would grow too large meanwhile.
    """
    untouched = alone and not _wal(path).exists()
    connection = connect(path, readonly=True, immutable=untouched)
    try:
        return _Check(connection, path, progress).run(quick=quick)
    except sqlite3.Error as error:
        raise store_error(error, path) from error
    finally:
        connection.close()


def unaccounted(path: Path, entry: LedgerEntry) -> int:
    """Return how many envelopes a running source calls settled and kept, that did not come yet.

    Those that the store knows to be missing don't count. Raises StoreError.
    """
    connection = connect(path, readonly=True)
    try:
        row = connection.execute(
            "SELECT accounted, settled FROM sources WHERE source = ?", (entry.source,)
        ).fetchone()
    except sqlite3.Error as error:
        raise store_error(error, path) from error
    finally:
        connection.close()
    text, settled = row or ("[]", 0)
    accounted = sources.ranges(text)
    for first, last in entry.not_kept:
        ledger.add(accounted, first, last)
    return ledger.count(ledger.holes(accounted, settled, entry.settled))


class _Check:
    def __init__(self, connection: Any, path: Path, progress: Progress) -> None:
        self._connection = connection
        self._path = path
        self._progress = progress
        self._step = ""
        self._began = self._told = 0.0
        self._wal_at_first = 0
        self._stopped: StoreError | None = None
        connection.set_progress_handler(self._tick, _STEPS)

    def run(self, *, quick: bool) -> Findings:
        found = Findings(str(self._path), *migrations.versions(self._connection))
        try:
            found.integrity = self._integrity("quick_check" if quick else "integrity_check")
            if found.integrity.errors:
                found.problems.append(
                    f"the file is damaged ({found.integrity.errors[0]}); restore a backup"
                )
                return found
            if found.schema != found.schema_wanted:
                found.problems.append(
                    f"schema {found.schema}, this program's is {found.schema_wanted}; "
                    + ("run appliance migrate" if found.schema < found.schema_wanted
                       else "use the newer program")
                )  # fmt: skip
                return found
            self._check_content(found)
        except sqlite3.DatabaseError as error:
            if self._stopped is not None:
                raise self._stopped from error
            raise
        return found

    def _check_content(self, found: Findings) -> None:
        if found.integrity is not None:
            found.problems += found.integrity.objects
        found.messages = self._messages()
        if found.messages.wrong_counters:
            found.problems.append(
                "topics whose counters are not those of their rows: "
                f"{found.messages.wrong_counters:,}"
            )
        found.dead_letters = self._dead_letters()
        if found.dead_letters.also_stored:
            # Not wrong by itself: whoever redrives is killed between the publish and the removal.
            found.notes.append(
                "dead letters whose message is stored as well, after a redrive that was cut off; "
                f"discard them: {found.dead_letters.also_stored:,}"
            )
        found.notes += self._restores()
        found.sources = self._sources(found.problems)
        _judge(found, found.sources)

    def _begin(self, step: str) -> None:
        self._step, self._began, self._told = step, time.monotonic(), 0.0
        self._wal_at_first = _size(_wal(self._path))
        self._progress(step, 0.0)

    def _tick(self) -> int:
        """Show that it goes on; end a check that would keep the log from being emptied."""
        now = time.monotonic()
        if now - self._told < _TICK:
            return 0
        self._told = now
        self._progress(self._step, now - self._began)
        if _size(_wal(self._path)) - self._wal_at_first <= _WAL_GROWTH:
            return 0
        self._stopped = StoreError(
            f"{self._path}: so much is written that the write-ahead log grew by "
            f"{_WAL_GROWTH >> 20} MiB during one check; verify a backup instead"
        )
        return 1

    def _integrity(self, check: str) -> Integrity:
        self._begin("structure")
        rows = self._connection.execute(f"PRAGMA {check}({_MOST_ERRORS})").fetchall()
        errors = [row[0] for row in rows if row[0] != "ok"]
        objects = [] if errors else migrations.differences(self._connection)
        return Integrity(check, not errors and not objects, errors, objects)

    def _messages(self) -> Messages:
        self._begin("counters")
        rows = size = topics = wrong_counters = 0
        wrong: list[WrongCounter] = []
        names = ("messages", "bytes", "first_at", "last_at")
        for topic, *values in self._connection.execute(_COUNTERS):
            kept, true = values[:4], values[4:]
            rows, size, topics = rows + true[0], size + true[1], topics + 1
            # Retention moves the first time on by and by, and leaves the last one where it was.
            within = not true[0] or (kept[2] or "") <= true[2] <= true[3] <= (kept[3] or "")
            if kept[:2] != true[:2] or not within:
                wrong_counters += 1
                if len(wrong) < _MOST_NAMED:
                    both = (dict(zip(names, side, strict=True)) for side in (kept, true))
                    wrong.append(WrongCounter(topic, *both))
        return Messages(rows, size, topics, wrong_counters, wrong)

    def _restores(self) -> list[str]:
        """Say what a restore left behind: it is accounted for, and not here."""
        rows = self._connection.execute(
            "SELECT restored_at, left_messages, left_dead_letters, replaced FROM restores "
            "WHERE left_messages > 0 OR left_dead_letters > 0 ORDER BY restored_at"
        )
        return [
            f"the restore of {at} left {count:,} messages and {dead:,} dead letters in {replaced}"
            for at, count, dead, replaced in rows
        ]

    def _dead_letters(self) -> DeadLetters:
        self._begin("dead letters")
        by_reason = dict(
            self._connection.execute(
                "SELECT reason, count(*) FROM dead_letters GROUP BY reason ORDER BY reason"
            ).fetchall()
        )
        also_stored = self._connection.execute(_ALSO_STORED).fetchone()[0]
        return DeadLetters(sum(by_reason.values()), by_reason, also_stored)

    def _sources(self, problems: list[str]) -> Sources:
        self._begin("numbers of envelopes")
        sums = Sources(0, 0, 0, 0, 0, 0, [])
        for source, text, settled, *counts, first_at, last_at in self._connection.execute(_SOURCES):
            not_kept, missing, accepted = counts
            try:
                accounted = sources.ranges(text)
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
                sums.gaps.append(Gap(source, *pairs, first_at, last_at))
        sums.gaps = sorted(sums.gaps, key=lambda gap: -gap.missing)[:_MOST_NAMED]
        return sums


def _judge(found: Findings, sources: Sources) -> None:
    """Say what the numbers mean."""
    if sources.missing:
        found.problems.append(
            f"envelopes missing: {sources.missing:,}; the broker had confirmed them, and they "
            "never came to the store"
        )
    if sources.accepted:
        found.notes.append(f"envelopes that were missing, accepted as such: {sources.accepted:,}")


def _wal(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
