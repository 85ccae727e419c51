"""The janitor: repeats duties, one after another.

The store's engine brings duties of its own (for SQLite, checkpoints and retention); scheduled
backups are the janitor's. A duty that fails is tried again later; its failure is logged once, and
so is its end. A duty that takes long calls `rest` between its small steps, so that a stop never
waits for it.
"""

import signal
import threading
import time
from collections.abc import Sequence
from typing import Any, Final

import structlog

from appliance.config import Config
from appliance.errors import BackupBusyError, StoreError
from appliance.machine.complaint import Complaint
from appliance.machine.pulse import BEAT_SECONDS, Pulse
from appliance.machine.ticks import until_tick
from appliance.store.base import Backups, Duty, Store

#: Seconds from the start until the duties are run for the first time.
_FIRST: Final = 3.0
#: Seconds between two looks whether a backup is due, and until one that failed is tried again: a
#: backup that turns out to be damaged has cost a whole copy.
_BACKUP_LOOK: Final = 60.0
_BACKUP_AGAIN: Final = 900.0

_log: Any = structlog.get_logger(__name__)


def told_to_stop() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set from now on."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def run(
    config: Config,
    store: Store,
    pulse: Pulse,
    stop: threading.Event,
    further: Sequence[Duty] = (),
) -> None:
    """Look after the database, and do the further duties, until `stop` is set."""
    janitor = Janitor(config, store, pulse, stop, further)
    pulse.ready()
    janitor.run()
    pulse.stopping()


class Janitor:
    """Runs every duty when it is due."""

    def __init__(
        self,
        config: Config,
        store: Store,
        pulse: Pulse,
        stop: threading.Event,
        further: Sequence[Duty] = (),
    ) -> None:
        self._pulse = pulse
        self._stop = stop
        self.duties: list[Duty] = [*store.duties(self.rest)]
        self.duties += further
        if config.backup_every:
            backups = _ScheduledBackups(config, store.backup, self)
            complaint = Complaint(_log, "scheduled backup failed", "scheduled backup works again")
            self.duties.append(Duty(backups.make_if_due, _BACKUP_AGAIN, complaint))

    def run(self) -> None:
        """Work until it is told to stop."""
        for duty in self.duties:
            duty.due = time.monotonic() + _FIRST
        while not self.rest(min(duty.due for duty in self.duties) - time.monotonic()):
            for duty in self.duties:
                if duty.due <= time.monotonic() and not self._stop.is_set():
                    duty.due = time.monotonic() + self.perform(duty)

    def rest(self, seconds: float) -> bool:
        """Wait and beat; return whether to stop."""
        end = time.monotonic() + seconds
        while True:
            self._pulse.beat()
            left = max(0.0, end - time.monotonic())
            pause = min(left, until_tick(BEAT_SECONDS))
            if self._stop.wait(pause):
                return True
            if left == pause:
                return False

    def perform(self, duty: Duty) -> float:
        """Run a duty; return the seconds until it is due again."""
        try:
            pause = duty.run()
        except StoreError as error:
            if not self._stop.is_set():
                duty.complaint.fails(kind=type(error).__name__, error=str(error))
            return duty.retry
        duty.complaint.works()
        return pause


class _ScheduledBackups:
    """Makes a backup every `backup_every` seconds, and deletes the oldest."""

    def __init__(self, config: Config, backups: Backups, janitor: Janitor) -> None:
        self._every = config.backup_every
        self._keep = config.backup_keep
        self._backups = backups
        self._janitor = janitor

    def make_if_due(self) -> float:
        """Make a backup if the last one is old enough; return the seconds until the next look.

        The files say when the last one was made, so a restart changes nothing. Raises StoreError.
        """
        backups = self._backups
        last = max((moment for moment, _ in backups.scheduled()), default=0.0)
        now = time.time()
        if last <= now < last + self._every:  # one from the future does not count
            return min(_BACKUP_LOOK, last + self._every - now)
        backups.make_folder()
        try:
            backup = backups.make(
                backups.folder / backups.name(scheduled=True),
                lambda _step, _share: not self._janitor.rest(0),
            )
        except BackupBusyError:
            return _BACKUP_LOOK
        removed = backups.prune(self._keep)
        _log.info(
            "scheduled backup made",
            path=str(backup.path),
            bytes=backup.bytes,
            messages=backup.messages,
            seconds=round(backup.seconds, 1),
            removed=[path.name for path in removed],
        )
        return _BACKUP_LOOK
