"""The ledger record: a process's last ledger entry, kept where a kill or a power cut leaves it.

Each envelope carries an entry on the fate of the earlier ones; the fate of the last ones is
reported when the process ends. A process that is killed can't report, and if the broker lost what
it had confirmed last (in a power cut, say) nobody would ever know. So each second in which
something has changed, a file in the data folder is overwritten with the entry. The next process on
this folder sends the records of ended processes to the store, behind all that is queued, and
removes them.

A record is named after its source, 64 random bits: the records of several API processes, and of
several hosts, never meet. A host sends only the records in its own data folder, and only those
whose lock no process holds. The lock is flock(2)'s, which knows the processes of one host (as
SQLite demands of the folder too). Should a record be taken for an ended process's all the same, its
entry is true as it is, and its process makes the file again.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import pika.exceptions
import structlog

from appliance.broker import shards
from appliance.broker.link import Link
from appliance.broker.publish import direct
from appliance.broker.publish.numbering import Numbering
from appliance.broker.shards import Shard
from appliance.errors import BrokerError
from appliance.machine import locks
from appliance.machine.complaint import Complaint
from appliance.machine.ticks import tick
from appliance.model import ledger
from appliance.model.contents import REPORT
from appliance.model.ledger import LedgerEntry

#: Seconds between two looks whether the record has changed: envelopes that are confirmed in the
#: last one before a kill stay unknown.
_INTERVAL: Final = 1.0
#: Seconds that a stop waits for the broker to take the final entries.
_FINAL_TIMEOUT: Final = 1.0
#: Bytes of a file: one block, so that it is overwritten as a whole.
_BLOCK: Final = 4096
_FOLDER: Final = "sources"
_WHOLE: Final = Shard()
#: Records of others that are read at once.
_MOST: Final = 1000

_log: Any = structlog.get_logger(__name__)


def folder(data: Path, shard: Shard = _WHOLE) -> Path:
    """Return where the records of what went to a shard are kept, below the data folder."""
    return data / (_FOLDER if shard.is_whole else f"{_FOLDER}.{shard.label}")


def recorded(data: Path) -> list[LedgerEntry]:
    """Return the entries of all records, of processes that live and of ended ones."""
    entries = []
    for each in _folders(data):
        for path in _files(each):
            with contextlib.suppress(OSError):
                entry = _read(path)
                if entry is not None:
                    entries.append(entry)
    return entries


def _folders(data: Path) -> list[Path]:
    return [data / _FOLDER, *sorted(data.glob(f"{_FOLDER}.*"))]


class LedgerRecord:
    """One process's record; its methods are called on the event loop.

    `ready` says whether the broker takes messages, `shard` where they go.
    """

    def __init__(
        self,
        data: Path,
        numbering: Numbering,
        link: Link,
        ready: Callable[[], bool],
        shard: Shard = _WHOLE,
    ) -> None:
        self._folder, self._shard = folder(data, shard), shard
        self._data = data
        self._numbering = numbering
        self._link = link
        self._ready = ready
        self._path = self._folder / numbering.source
        self._descriptor: int | None = None
        self._written: LedgerEntry | None = None
        self._is_closed = False
        self._complaint = Complaint(
            _log, "ledger record not written", "ledger record written again", level="info"
        )

    async def run(self) -> None:
        """Send the records of ended processes, once; then keep the own record, until cancelled."""
        others_sent = False
        while True:
            await tick(_INTERVAL)
            if self._is_closed:  # the final entries are taken from the numbering: it has less now
                return
            if not others_sent and self._ready():
                others_sent = await self._send_others()
            entry = self._numbering.entry()
            if entry.settled and entry != self._written:
                await asyncio.to_thread(self.write, entry)

    async def close(self) -> None:
        """Send the final entries, or leave the record to the next process.

        Nothing more may be published.
        """
        self._is_closed = True
        entry = self._numbering.entry()
        final = list(self._numbering.final_entries())
        if final and await self._send_final(final):
            self._path.unlink(missing_ok=True)
        elif final:
            self.write(entry)

    def write(self, entry: LedgerEntry) -> None:
        """Overwrite the record, on disk when this returns; its lock shows that we live."""
        try:
            descriptor = self._open()
            os.pwrite(descriptor, entry.encode().encode().ljust(_BLOCK), 0)
            os.fdatasync(descriptor)
        except OSError as error:
            self._complaint.fails(error=str(error))
        else:
            self._complaint.works()
            self._written = entry

    def _open(self) -> int:
        """Return the locked file's descriptor; made anew where another process removed the file."""
        if self._descriptor is not None:
            if os.fstat(self._descriptor).st_nlink:
                return self._descriptor
            os.close(self._descriptor)
            self._descriptor = None
        self._folder.mkdir(mode=0o700, exist_ok=True)
        descriptor = locks.open_file(self._path)
        locks.take(descriptor, patience=None)
        self._descriptor = descriptor
        return descriptor

    async def _send_final(self, entries: list[LedgerEntry]) -> bool:
        """Send the final entries; whether the broker took them in time."""
        if not self._ready():
            return False
        try:
            await asyncio.wait_for(self._send(entries), _FINAL_TIMEOUT)
        except (BrokerError, pika.exceptions.AMQPError, TimeoutError) as error:
            _log.debug("ledger record left for the next process", reason=str(error))
            return False
        return True

    async def _send_others(self) -> bool:
        """Send the records of ended processes; whether that is done."""
        try:
            records = await asyncio.to_thread(self._ended)
            if records:
                await self._send([entry for _, entry in records])
            for path, entry in records:
                path.unlink(missing_ok=True)
                _log.info("ledger record recovered", source=entry.source)
        except (BrokerError, pika.exceptions.AMQPError, OSError) as error:
            _log.debug("ledger records not sent", reason=str(error))
            return False
        return True

    def _ended(self) -> list[tuple[Path, LedgerEntry]]:
        """Return the records of ended processes whose envelopes are in this queue or stored.

        An earlier number of shards had other queues, which are stored before the first of these.
        """
        folders = [self._folder]
        if not self._shard.place:
            own = {folder(self._data, each) for each in shards.all_of(self._shard.number)}
            folders += [each for each in _folders(self._data) if each not in own]
        return [record for each in folders for record in ended(each)]

    async def _send(self, entries: Iterable[LedgerEntry]) -> None:
        """Send reports; return when all are on the broker's disk. Raises BrokerError."""
        reports = [entry.encode().encode() for entry in entries]
        await direct.send(self._link, REPORT, reports, self._shard.queue)


def ended(place: Path) -> list[tuple[Path, LedgerEntry]]:
    """Return the records of ended processes; one that can't be read is removed.

    Raises OSError.
    """
    records = []
    for path in _files(place):
        with contextlib.suppress(FileNotFoundError):
            if locks.is_held(path):
                continue
            entry = _read(path)
            if entry is None:
                path.unlink(missing_ok=True)
            else:
                records.append((path, entry))
    return records


def _files(place: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return sorted(place.iterdir())[:_MOST]
    return []


def _read(path: Path) -> LedgerEntry | None:
    with path.open("rb") as file:
        entry = ledger.read(file.read(_BLOCK).strip())
    return None if entry is None or entry.number is not None else entry
