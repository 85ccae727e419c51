"""The janitor: what has to be done now and then, one thing after another.

A duty is a function that does its work and returns the seconds until it is due again. One that
fails is tried again later; its trouble is logged once, and once more when it is over. Whatever
takes long calls `rest` between its small steps, so that a stop never waits for it.
"""

import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import structlog

from appliance.config import Config
from appliance.errors import BackupBusyError, StoreError
from appliance.machine.pulse import BEAT_SECONDS, Pulse
from appliance.store.sqlite import backup, upkeep
from appliance.store.sqlite.sweeper import Sweeper

#: Seconds after the start until each duty is looked at for the first time.
_FIRST: Final = 3.0
#: Seconds between two looks at the WAL.
_WAL_EVERY: Final = 30.0
#: Bytes of WAL that are left alone: a commit writes a few pages, and cutting the file each time
#: would cost more than it saves.
_WAL_SMALL: Final = 4 * 2**20
#: Bytes of WAL that are a trouble where it can't be cut: SQLite starts it over at 40 MB.
_WAL_LARGE: Final = 128 * 2**20
#: Seconds between two looks at what is to be deleted.
_SWEEP_EVERY: Final = 60.0
#: Seconds between two looks at whether a backup is due, and until one that failed is tried again:
#: a copy that is found not to be sound has cost a whole copy.
_BACKUP_LOOK: Final = 60.0
_BACKUP_AGAIN: Final = 900.0

_log: Any = structlog.get_logger(__name__)


def run(config: Config, pulse: Pulse) -> None:
    """Look after the database until SIGTERM or SIGINT."""
    janitor = Janitor(config, pulse)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: janitor.stop())
    pulse.ready()
    janitor.run()
    pulse.stopping()


@dataclass
class _Duty:
    """One thing to do: seconds until it is tried again after a failure, when, the last trouble."""

    name: str
    run: Callable[[], float]
    again: float
    due: float = 0.0
    trouble: str = ""


class Janitor:
    """Runs every duty when it is due."""

    def __init__(self, config: Config, pulse: Pulse) -> None:
        self._config = config
        self._pulse = pulse
        self._stop = threading.Event()
        self._wal_told = 0  # its bytes when that was a trouble
        self._duties = [_Duty("cut the WAL", self._cut_wal, _WAL_EVERY)]
        if config.retention:
            self._sweeper = Sweeper(config.database, config.retention, self.rest)
            self._duties.append(_Duty("delete what is not kept", self._sweep, _SWEEP_EVERY))
        if config.backup_every:
            self._duties.append(_Duty("make a backup", self._back_up, _BACKUP_AGAIN))

    def run(self) -> None:
        """Work until told to stop."""
        for duty in self._duties:
            duty.due = time.monotonic() + _FIRST
        while not self.rest(min(duty.due for duty in self._duties) - time.monotonic()):
            for duty in self._duties:
                if duty.due <= time.monotonic() and not self._stop.is_set():
                    duty.due = time.monotonic() + self._do(duty)

    def stop(self) -> None:
        """Have `run` end soon; may be called from a signal's handler."""
        self._stop.set()

    def rest(self, seconds: float) -> bool:
        """Wait, and show that the work goes on; whether to stop."""
        end = time.monotonic() + seconds
        while True:
            self._pulse.beat()
            left = max(0.0, end - time.monotonic())
            if self._stop.wait(min(left, BEAT_SECONDS)):
                return True
            if left <= BEAT_SECONDS:
                return False

    def _do(self, duty: _Duty) -> float:
        """Do it; return the seconds until it is due again."""
        try:
            pause = duty.run()
        except StoreError as error:
            if not self._stop.is_set() and duty.trouble != (kind := type(error).__name__):
                _log.warning(f"can't {duty.name}, trying again", error=str(error))
                duty.trouble = kind
            return duty.again
        if duty.trouble:
            _log.info(f"can {duty.name} again")
            duty.trouble = ""
        return pause

    def _cut_wal(self) -> float:
        """Checkpoint a WAL that has grown; say who is in the way, once for each doubling."""
        database = self._config.database
        size = upkeep.wal_size(database)
        if size <= _WAL_SMALL:
            self._wal_told = 0
            return _WAL_EVERY
        result = upkeep.checkpoint(database)
        if not result.busy:
            _log.debug("checkpointed", pages=result.moved_pages)
            if self._wal_told:
                _log.info("the write-ahead log could be emptied", bytes=size)
            self._wal_told = 0
        elif size >= max(_WAL_LARGE, 2 * self._wal_told):
            _log.warning(
                "the write-ahead log can't be emptied: a program holds a read open",
                bytes=size,
                readers=upkeep.readers(database),
            )
            self._wal_told = size
        return _WAL_EVERY

    def _sweep(self) -> float:
        """Delete what the rules don't keep."""
        done = self._sweeper.sweep()
        if done.rows or done.pages:
            _log.info(
                "deleted what is not kept",
                messages=done.rows,
                bytes=done.bytes,
                pages_freed=done.pages,
                seconds=round(done.seconds, 1),
                longest_transaction=round(done.longest_hold, 3),
            )
        return _SWEEP_EVERY

    def _back_up(self) -> float:
        """Make a backup if the last one is old enough, then delete the oldest.

        When the last one was made is read from the files, so a restart changes nothing.
        """
        config, folder = self._config, self._config.backup_folder
        last = max((moment for moment, _ in backup.scheduled(folder)), default=0.0)
        now = time.time()
        if last <= now < last + config.backup_every:  # one from the future does not count
            return min(_BACKUP_LOOK, last + config.backup_every - now)
        backup.make_folder(folder, config.database)
        try:
            made = backup.make(
                config.database,
                folder / backup.name(scheduled=True),
                config.min_free_bytes,
                lambda _what, _done: not self.rest(0),
            )
        except BackupBusyError:
            return _BACKUP_LOOK
        removed = backup.prune(folder, config.backup_keep)
        _log.info(
            "made a backup",
            path=str(made.path),
            bytes=made.bytes,
            messages=made.messages,
            seconds=round(made.seconds, 1),
            removed=[path.name for path in removed],
        )
        return _BACKUP_LOOK
