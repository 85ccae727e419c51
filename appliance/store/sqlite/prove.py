"""Proves a backup: restores it into a scratch folder, checks it, compares it with the database.

It goes the way of a real restore, up to the rename. The scratch folder is the appliance's own; what
a killed process left there is removed before the next proof, and when the janitor starts.
"""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from appliance.errors import (
    BackupBusyError,
    BackupError,
    BackupRoomError,
    SchemaError,
    StoreError,
)
from appliance.machine import disk_space, files, locks
from appliance.store.base import Progress
from appliance.store.proving import BackupProof
from appliance.store.sql import sums
from appliance.store.sqlite import backup_comparison, paths, restore, verify
from appliance.store.sqlite.backup_comparison import BackupComparison
from appliance.store.sqlite.database import connect, sqlite3

#: Space that must stay free, in times of the floor below which no message is taken: a proof is
#: given up before anything else suffers.
_FLOORS: Final = 2
#: Seconds between two looks at the free space.
_LOOK: Final = 1.0
#: Faults that are named.
_MOST_NAMED: Final = 10


def prove(source: Path, database: Path, floor: int, progress: Progress) -> BackupProof:
    """Restore the backup `source` beside `database`, verify and compare it; the scratch is removed.

    Whatever is wrong with the backup is a fault of the proof. Raises BackupBusyError while another
    proof is made, BackupRoomError where there is no room for one, BackupError where it was stopped,
    is no file that can be read now, or the scratch folder can't be written.
    """
    began = time.monotonic()
    if not source.is_file():
        raise BackupError(f"{source} is not there; appliance backup makes one")
    proof = BackupProof(source.name)
    with _scratch(database) as scratch:
        watch = _Watch(scratch, _FLOORS * floor, progress)
        try:
            _check_room(source, scratch, _FLOORS * floor)
            _Proving(source, database, scratch / paths.DATABASE, watch, proof).run(_FLOORS * floor)
        except (BackupRoomError, BackupBusyError):
            raise
        except SchemaError as error:
            proof.faults.append(str(error))
        except StoreError as error:
            if watch.trouble is not None:
                raise watch.trouble from error
            proof.faults.append(str(error))
    # SQLite's own words have several lines.
    proof.faults = [" ".join(text.split()) for text in proof.faults[:_MOST_NAMED]]
    proof.seconds = round(time.monotonic() - began, 2)
    return proof


def clear(database: Path) -> None:
    """Remove what a killed process left in the scratch folder. Raises BackupError."""
    with suppress(BackupBusyError), _scratch(database):
        pass


class _Watch:
    """Asks `progress` whether to go on, and looks at the disk; the reason for an end is kept."""

    def __init__(self, folder: Path, floor: int, progress: Progress) -> None:
        self._folder = folder
        self._floor = floor
        self._progress = progress
        self._looked = time.monotonic()
        self.trouble: StoreError | None = None

    def __call__(self, step: str, share: float | None) -> bool:
        if self.trouble is None and not self._progress(step, share):
            self.trouble = BackupError("the proof was stopped")
        if self.trouble is None and time.monotonic() - self._looked > _LOOK:
            self._looked = time.monotonic()
            self.trouble = _lack_of_room(self._folder, 0, self._floor)
        return self.trouble is None

    def step(self, step: str, _seconds: float = 0.0) -> None:
        """Take a step's name. Raises what ended the proof."""
        if not self(step, None):
            raise self.trouble or BackupError("the proof was stopped")


class _Proving:
    """One proof, step by step: each adds to the faults of `proof`."""

    def __init__(
        self, source: Path, database: Path, draft: Path, watch: _Watch, proof: BackupProof
    ) -> None:
        self._source = source
        self._database = database
        self._draft = draft
        self._watch = watch
        self._proof = proof

    def run(self, floor: int) -> None:
        with restore.prepared(self._source, self._draft, floor, self._watch) as ready:
            self._proof.messages, self._proof.bytes = ready.messages, ready.bytes
            if ready.migrated:
                self._proof.notes.append(f"restored by migrating it: {', '.join(ready.migrated)}")
            ready.put_in_place()
        self._verify()
        self._compare()

    def _verify(self) -> None:
        """Make the checks of `appliance verify`, but for what the backup can't know better."""
        proof = self._proof
        checked = verify.verify(self._draft, quick=True, alone=True, progress=self._watch.step)
        if self._watch.trouble is not None:
            raise self._watch.trouble
        known = sums.missing_text(checked.sources.missing) if checked.sources else ""
        proof.faults += [text for text in checked.problems if text != known]
        if checked.dead_letters:
            proof.dead_letters = checked.dead_letters.total
        if checked.sources:
            proof.sources = checked.sources.total
        if checked.messages and checked.messages.wrong_counters:
            # The sentence is of a database that a janitor looks after.
            proof.faults = [text for text in proof.faults if "wrong counters" not in text]
            proof.faults += _wrong_counters(checked.messages.wrong)

    def _compare(self) -> None:
        """Compare with the present database, where there is one that can be read."""
        proof, database = self._proof, self._database
        if not database.exists():
            proof.notes.append("there is no present database to compare it with")
            return
        link = connect(self._draft, readonly=True)
        try:
            link.execute("ATTACH ? AS present", (f"{database.absolute().as_uri()}?mode=ro",))
            found = backup_comparison.compare(link, self._rested)
        except sqlite3.Error as error:
            proof.notes.append(f"not compared with the present database: {error}")
            return
        finally:
            link.close()
        self._take(found)

    def _rested(self, share: float | None) -> None:
        if not self._watch("comparing", share):
            raise self._watch.trouble or BackupError("the proof was stopped")

    def _take(self, found: BackupComparison) -> None:
        self._proof.compared = found.messages
        self._proof.faults += found.faults
        self._proof.notes += found.notes


def _wrong_counters(wrong: list[Any]) -> Iterator[str]:
    for each in wrong:
        kept, true = each.kept["messages"], each.true["messages"]
        yield (
            f"the topic {each.topic} has {true:,} messages in the backup and should have {kept:,}, "
            "by its counters"
        )


def _check_room(source: Path, scratch: Path, floor: int) -> None:
    """Raise BackupRoomError where a copy would leave less than `floor` bytes free."""
    try:
        size = source.stat().st_size
    except OSError as error:
        raise BackupError(f"{source} can't be read: {error.strerror}") from error
    if lack := _lack_of_room(scratch, size, floor):
        raise lack


def _lack_of_room(folder: Path, size: int, floor: int) -> BackupRoomError | None:
    free = disk_space.disk(folder, "the data's disk", 0, 0).free
    if free - size >= floor:
        return None
    return BackupRoomError(
        f"no room to restore it beside the database: {size} bytes are needed, {free} are free, and "
        f"{floor} must stay so"
    )


@contextmanager
def _scratch(database: Path) -> Iterator[Path]:
    """Lend an empty folder beside the database to one process; it is removed in the end.

    Raises BackupBusyError where another process has it.
    """
    folder = database.with_name(f".{database.stem}-proof")
    try:
        descriptor = locks.open_file(paths.with_suffix(database, ".proof"))
    except OSError as error:
        raise BackupError(f"{database}: can't be locked: {error.strerror}") from error
    try:
        files.give_to_owner_of(database.parent, descriptor)
        try:
            locks.take(descriptor)
        except BlockingIOError as error:
            raise BackupBusyError(
                "another backup is being proven; wait until it is done"
            ) from error
        shutil.rmtree(folder, ignore_errors=True)
        try:
            folder.mkdir(mode=0o700)
            files.give_to_owner_of(database.parent, folder)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise BackupError(f"{folder}: can't be written: {error.strerror}") from error
    finally:
        os.close(descriptor)
