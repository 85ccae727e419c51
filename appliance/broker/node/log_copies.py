"""Keeps each write-ahead log of the queues until all that is in it lies in segments.

Ra moves the entries of a log into segments and then removes the log. It does not notice where the
disk takes no more just then (rabbitmq/ra#578): entries that were confirmed are in neither, and the
queue ends at the first reading of one, and at each start from then on. So each log has a second
name here, which costs nothing while Ra has the log itself. It goes when every entry is found in a
segment, or behind a snapshot; and what is missing is put into segments before the node starts.
"""

import contextlib
import shutil
from pathlib import Path
from typing import Final

from appliance.broker.node import log_check, queue_snapshots, segment_check
from appliance.broker.node.layout import Layout
from appliance.broker.node.log_entries import LogEntry
from appliance.broker.node.queue_files import queue_logs
from appliance.machine import files

#: Folder of the second names in the node's folder. A log's name can come again, with another log;
#: so the file's number is a part of the second name.
_COPIES: Final = "logs"
#: Entries of a segment, where a queue has none yet.
_ROOM: Final = 128


def keep(home: Path) -> list[str]:
    """Give each log that is new a second name; remove those that are no longer needed.

    Returns the folders of the queues that lack entries of a log that Ra has removed. Raises
    OSError.
    """
    layout = Layout(home)
    lacking: set[str] = set()
    for copy in _linked(layout):
        numbers = _missing(layout, log_check.indexed(copy))
        if not numbers:
            copy.unlink(missing_ok=True)
        lacking |= numbers.keys()
    return sorted(lacking)


def mend(layout: Layout) -> dict[str, int]:
    """Put what is missing into segments; return how many entries each queue lacked, by its folder.

    For a node that does not run, and whose snapshots are in order. Raises OSError.
    """
    copies = layout.home / _COPIES
    removed = _linked(layout)
    for made in copies.glob("*.made"):  # by a start that was cut off
        _exchange(queue_logs(layout) / made.stem, made)
    numbers: dict[str, set[int]] = {}
    for copy in removed:
        for name, more in log_check.indexed(copy).items():
            numbers.setdefault(name, set()).update(more)
    missing = _missing(layout, numbers)
    found: dict[str, dict[int, LogEntry]] = {name: {} for name in missing}
    for copy in removed if missing else ():
        for name, entry in log_check.entries(copy):
            if entry.number in missing.get(name, ()):
                found[name][entry.number] = entry
    for name, entries in found.items():
        if entries:
            _put_in(queue_logs(layout) / name, entries, copies / f"{name}.made")
    for copy in removed:
        copy.unlink()
    return {name: len(entries) for name, entries in found.items() if entries}


def _linked(layout: Layout) -> list[Path]:
    """Give each log that Ra has a second name; return the second names of those that it removed."""
    folder, copies = queue_logs(layout), layout.home / _COPIES
    copies.mkdir(mode=0o700, exist_ok=True)
    there = set()
    for log in folder.glob("*.wal"):
        with contextlib.suppress(FileNotFoundError):  # Ra removes one at any moment
            name = f"{log.stem}-{log.stat().st_ino}{log.suffix}"
            there.add(name)
            if not (copies / name).exists():
                (copies / name).hardlink_to(log)
    return sorted(copy for copy in copies.glob("*.wal") if copy.name not in there)


def _missing(layout: Layout, numbers: dict[str, set[int]]) -> dict[str, set[int]]:
    """Return those of the numbers of entries, by queue, of which there is no entry elsewhere."""
    missing: dict[str, set[int]] = {}
    for name, all_numbers in numbers.items():
        queue, left = queue_logs(layout) / name, set(all_numbers)
        if not queue.is_dir():
            continue  # it was deleted
        for segment in sorted(queue.glob("*.segment")):
            with contextlib.suppress(FileNotFoundError):  # Ra removes it behind a snapshot
                if not left.isdisjoint(segment_check.indexed(segment)):
                    left -= segment_check.sound(segment)
        # Looked for last: what a newer snapshot stands for is in no segment any more.
        last = queue_snapshots.last_index(queue)
        if left := {number for number in left if number > last}:
            missing[name] = left
    if missing:
        for log in queue_logs(layout).glob("*.wal"):
            with contextlib.suppress(FileNotFoundError):
                for name, again in log_check.indexed(log).items():
                    missing.get(name, set()).difference_update(again)
    return {name: left for name, left in missing.items() if left}


def _put_in(queue: Path, missing: dict[int, LogEntry], made: Path) -> None:
    """Write the entries, and all behind them, into new segments; then have them take their place.

    The new segments are whole in the folder `made` before an old one goes, so that a mending that
    is cut off can be ended by the next start.
    """
    first, entries, room = min(missing), dict(missing), _ROOM
    for segment in _ending_behind(queue, first):
        room = segment_check.room(segment) or room
        entries |= {entry.number: entry for entry in segment_check.entries(segment)}
    in_order = [entries[number] for number in sorted(entries) if number >= first]
    draft = made.with_suffix(".part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    for start in range(0, len(in_order), room):
        content = segment_check.content(in_order[start : start + room], room)
        files.write_private(
            draft / f"{start:012}.segment", content.decode("latin-1"), encoding="latin-1"
        )
    files.sync(draft)
    draft.rename(made)
    files.sync(made.parent)
    _exchange(queue, made)


def _exchange(queue: Path, made: Path) -> None:
    """Put the segments of the folder `made` in the place of those from their first entry on.

    Ra reads segments by their names, each of them on from where the one before it ends.
    """
    new = sorted(made.iterdir())
    if queue.is_dir() and new:
        for segment in _ending_behind(queue, min(segment_check.indexed(new[0]))):
            segment.unlink()
        number = max((int(each.stem) for each in queue.glob("*.segment")), default=0)
        for segment in new:
            number += 1
            (queue / f"{number:08}.segment").hardlink_to(segment)
        files.sync(queue)
    shutil.rmtree(made)


def _ending_behind(queue: Path, first: int) -> list[Path]:
    """Return the segments that have an entry with this number or a higher one, or none at all."""
    return [
        segment
        for segment in sorted(queue.glob("*.segment"))
        if max(segment_check.indexed(segment), default=first) >= first
    ]
