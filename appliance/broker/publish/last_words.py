"""What this process knows of its envelopes, kept where a kill or a power cut leaves it.

With each envelope the store is told how the earlier ones ended; of the last ones it is told when
the process ends. A process that is killed can't, and if the broker lost what it had confirmed last
(with a power cut, say) nobody would ever know. So each second, where something has changed, a file
in the data folder is overwritten with what is settled; whoever comes next sends it to the store
behind all that is queued, and removes it.
"""

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import pika
import pika.exceptions
import structlog

from appliance.broker import topology
from appliance.broker.link import Link
from appliance.broker.publish.numbering import Numbering
from appliance.errors import BrokerError
from appliance.model import ledger
from appliance.model.ledger import Entry
from appliance.model.messages import REPORT

#: Seconds between two looks whether there is something to keep: what is confirmed in the last one
#: before a kill stays unknown.
_INTERVAL: Final = 1.0
#: Seconds that a stop waits for the broker to take the last words.
_LAST_WORDS: Final = 1.0
#: Bytes of a file: one block, so that it is overwritten as a whole.
_BLOCK: Final = 4096
#: Files of others that are read at once.
_MOST: Final = 1000

_log: Any = structlog.get_logger(__name__)


def folder(data: Path) -> Path:
    """Return where the accounts are kept, below the data folder."""
    return data / "sources"


def left(data: Path) -> list[Entry]:
    """Return what is in the accounts, of processes that live and that don't."""
    found = []
    for path in _files(folder(data)):
        with contextlib.suppress(OSError):
            entry = _read(path)
            if entry is not None:
                found.append(entry)
    return found


class Account:
    """One process's account; its methods are called on the event loop."""

    def __init__(
        self, data: Path, numbering: Numbering, link: Link, ready: Callable[[], bool]
    ) -> None:
        self._folder = folder(data)
        self._numbering = numbering
        self._link = link
        self._ready = ready
        self._path = self._folder / numbering.source
        self._descriptor: int | None = None
        self._written: Entry | None = None
        self._failed = False

    async def run(self) -> None:
        """Report what others left, once; then keep the own account, until cancelled."""
        reported = False
        while True:
            await asyncio.sleep(_INTERVAL)
            if not reported and self._ready():
                reported = await self._report_others()
            entry = self._numbering.entry()
            if entry.settled and entry != self._written:
                await asyncio.to_thread(self._write, entry)

    async def close(self) -> None:
        """Say the last words, or leave them for whoever comes next; nothing more may be sent."""
        entry = self._numbering.entry()
        words = [text.encode() for text in self._numbering.last_words()]
        if words and await self._told(words):
            self._path.unlink(missing_ok=True)
        elif words:
            self._write(entry)

    async def _told(self, words: list[bytes]) -> bool:
        """Say the last words; whether the broker took them in time."""
        if not self._ready():
            return False
        try:
            await asyncio.wait_for(self._tell(words), _LAST_WORDS)
        except (BrokerError, pika.exceptions.AMQPError, TimeoutError) as error:
            _log.debug("the last words are left in a file", reason=str(error))
            return False
        return True

    async def _report_others(self) -> bool:
        """Send what processes that are gone have left; whether that is done."""
        try:
            gone = await asyncio.to_thread(_gone, self._folder)
            if gone:
                await self._tell([entry.encode().encode() for _, entry in gone])
            for path, entry in gone:
                path.unlink(missing_ok=True)
                _log.info("an API process ended without its last words", source=entry.source)
        except (BrokerError, pika.exceptions.AMQPError, OSError) as error:
            _log.debug("what others left can't be reported yet", reason=str(error))
            return False
        return True

    async def _tell(self, words: Iterable[bytes]) -> None:
        """Send reports to our queue and none else; returns when all are on the broker's disk.

        On a channel of its own: the publisher counts what it sends on its own. Raises BrokerError.
        """
        channel: Any = await self._link.open_channel()
        done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        unconfirmed: set[int] = set()

        def end(trouble: str) -> None:
            if not done.done():
                done.set_result(trouble)

        def answered(frame: Any) -> None:
            method = frame.method
            if isinstance(method, pika.spec.Basic.Nack):
                end("refused")
            first = 1 if method.multiple else method.delivery_tag
            unconfirmed.difference_update(range(first, method.delivery_tag + 1))
            if not unconfirmed:
                end("")

        try:
            channel.add_on_return_callback(lambda *_: end("there is no queue"))
            await self._link.call(channel.confirm_delivery, answered)
            for tag, text in enumerate(words, 1):
                unconfirmed.add(tag)
                channel.basic_publish(
                    "",
                    topology.QUEUE,
                    text,
                    pika.BasicProperties(delivery_mode=2, type=REPORT),
                    mandatory=True,
                )
            trouble = await self._link.wait(done)
        finally:
            if channel.is_open:
                channel.close()
        if trouble:
            raise BrokerError(f"broker: {trouble}")

    def _write(self, entry: Entry) -> None:
        """Overwrite the file, on disk when this returns; its lock says that we live."""
        try:
            if self._descriptor is None:
                self._folder.mkdir(mode=0o700, exist_ok=True)
                self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
                fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            os.pwrite(self._descriptor, entry.encode().encode().ljust(_BLOCK), 0)
            os.fdatasync(self._descriptor)
        except OSError as error:
            if not self._failed:  # a full disk says so elsewhere, and a thousand times is too much
                _log.info("what is confirmed can't be noted", error=str(error))
            self._failed = True
        else:
            self._written, self._failed = entry, False


def _files(place: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return sorted(place.iterdir())[:_MOST]
    return []


def _read(path: Path) -> Entry | None:
    with path.open("rb") as file:
        entry = ledger.read(file.read(_BLOCK).strip())
    return None if entry is None or entry.number is not None else entry


def _gone(place: Path) -> list[tuple[Path, Entry]]:
    """Return the accounts of processes that are gone; what can't be read is removed."""
    found = []
    for path in _files(place):
        with contextlib.suppress(BlockingIOError, FileNotFoundError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            entry = _read(path)
            if entry is None:
                path.unlink(missing_ok=True)
            else:
                found.append((path, entry))
    return found
