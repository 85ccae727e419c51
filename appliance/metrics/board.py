"""The board: each process writes its numbers into a file once a second, and anyone adds them up.

A file stays when its process ends, however it ends; whoever finds it next adds its counters to
those of the past, so that a sum over all processes never falls. Only the last second of a process
that was killed is missing.

The folder is the run folder's. Where that is emptied (a new container), counters begin at 0 again,
as Prometheus expects of a restart.
"""

import contextlib
import json
import operator
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import structlog

from appliance.config import Config
from appliance.errors import StoreError
from appliance.machine import files, locks, record_file
from appliance.machine.record_file import RecordFile
from appliance.machine.ticks import until_tick

#: Bytes of a record's file: one page, so that no process that is killed leaves half of a record.
FILE_BYTES: Final = 4096
#: Seconds between two records.
_EVERY: Final = 1.0
_PAST: Final = "past.json"
_LOCK: Final = "lock"
#: Seconds to wait for another process that adds up.
_PATIENCE: Final = 2.0
#: Attempts to read a record that is being written, and seconds between them.
_ATTEMPTS: Final = 20
_PAUSE: Final = 0.005
#: Files of dead processes whose names are remembered: one that was added and could not be removed
#: is not added again.
_REMEMBERED: Final = 100

#: Gauges that are not added up: each API process sees the same queue. None can tell the age of what
#: others have put there, but each knows an age that it does not exceed.
_MERGES: Final[Mapping[str, Callable[[float, float], float]]] = {
    "queue_envelopes": max,
    "queue_oldest_age_seconds": min,
}
_sum: Final[Callable[[float, float], float]] = operator.add

_log: Any = structlog.get_logger(__name__)


class Numbers(NamedTuple):
    """The numbers of a process. A key is a metric's name, `:` and the value of its label.

    Counters and histograms (a bucket's count each, and at the end the sum) never fall while the
    process lives. Gauges count only while it does.
    """

    counters: Mapping[str, float] = {}
    histograms: Mapping[str, Sequence[float]] = {}
    gauges: Mapping[str, float] = {}


def together(*parts: Numbers) -> Numbers:
    """Return the numbers of a process that several parts of it count, each its own."""
    merged: tuple[dict[str, Any], dict[str, Any], dict[str, Any]] = {}, {}, {}
    for part in parts:
        for into, values in zip(merged, part, strict=True):
            into.update(values)
    return Numbers(*merged)


class _Record(NamedTuple):
    process: str
    numbers: Numbers


@dataclass
class BoardTotals:
    """The numbers of all processes added up; `starts` and `living` are by the process's name."""

    counters: dict[str, float] = field(default_factory=dict)
    histograms: dict[str, list[float]] = field(default_factory=dict)
    gauges: dict[str, float] = field(default_factory=dict)
    starts: Counter[str] = field(default_factory=Counter)
    living: Counter[str] = field(default_factory=Counter)

    def add(self, numbers: Numbers) -> None:
        """Add the counters and the histograms of a process, or of several."""
        for name, value in numbers.counters.items():
            self.counters[name] = self.counters.get(name, 0) + value
        for name, values in numbers.histograms.items():
            known = self.histograms.get(name, [])
            if len(known) != len(values):  # an earlier version had other buckets
                known = [0.0] * len(values)
            self.histograms[name] = [a + b for a, b in zip(known, values, strict=True)]


@contextlib.contextmanager
def shown(config: Config, process: str, read: Callable[[], Numbers]) -> Iterator[None]:
    """Show this process's numbers within the block.

    Where they can't be written, the pulse can't be either: its file is in the same folder, and it
    says so.
    """
    name = f"{process}-{os.getpid()}-{time.time_ns()}"
    file = RecordFile(_folder(config) / name, FILE_BYTES)
    stop = threading.Event()

    def write() -> None:
        file.write({"process": process, **read()._asdict()})

    def run() -> None:
        while not stop.wait(until_tick(_EVERY)):
            write()

    write()
    thread = threading.Thread(target=run, name="metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        write()
        file.close(keep=True)


def totals(config: Config) -> BoardTotals:
    """Return the numbers of all processes; take over those of processes that have ended.

    Raises StoreError where the run folder can't be used now.
    """
    folder = _folder(config)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locks.held(folder / _LOCK, patience=_PATIENCE):
            return _totals(folder)
    except OSError as error:
        raise StoreError(f"the metrics in {folder} can't be read: {error}") from error


def _totals(folder: Path) -> BoardTotals:
    past, merged = _past(folder)
    dead, living = [], []
    for path in record_file.files(folder):
        if path.name in merged:
            path.unlink(missing_ok=True)
        elif locks.is_held(path):
            living.append(_record(path))
        else:
            if (record := _record(path)) is not None:
                past.add(record.numbers)
                past.starts[record.process] += 1
            dead.append(path)
    if dead:
        merged = [*merged, *(path.name for path in dead)][-_REMEMBERED:]
        kept = {"counters": past.counters, "histograms": past.histograms, "starts": past.starts}
        files.write_private(folder / _PAST, json.dumps({**kept, "merged": merged}))
        for path in dead:
            path.unlink(missing_ok=True)
    for record in living:
        if record is not None:
            past.add(record.numbers)
            for name, value in record.numbers.gauges.items():
                known = past.gauges.get(name)
                merge = _MERGES.get(name, _sum)
                past.gauges[name] = value if known is None else merge(known, value)
            past.starts[record.process] += 1
            past.living[record.process] += 1
    return past


def _record(path: Path) -> _Record | None:
    """Return a file's record; None where it is none, however often it is read."""
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(KeyError, TypeError, ValueError):
            record = record_file.read(path, FILE_BYTES)
            numbers = Numbers(record["counters"], record["histograms"], record["gauges"])
            return _Record(str(record["process"]), numbers)
        time.sleep(_PAUSE)
    _log.warning("metrics unreadable", file=path.name)
    return None


def _past(folder: Path) -> tuple[BoardTotals, list[str]]:
    """Return what was taken over of processes that have ended, and the names of their files."""
    try:
        record = json.loads((folder / _PAST).read_text())
        past = BoardTotals(
            record["counters"], record["histograms"], starts=Counter(record["starts"])
        )
        return past, list(record["merged"])
    except FileNotFoundError:
        return BoardTotals(), []
    except (KeyError, TypeError, ValueError) as error:
        _log.warning("metrics unreadable", file=_PAST, error=str(error))
        return BoardTotals(), []


def _folder(config: Config) -> Path:
    return config.run_folder / "metrics"
