"""The prover: restores the newest backup into a scratch folder now and then, in its own thread.

The thread has the lowest priority, and rests for most of the time, so that neither intake nor the
janitor's duties wait for it, however large the database is.
"""

import contextlib
import contextvars
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

import structlog

from appliance.config import Config
from appliance.errors import BackupBusyError, BackupRoomError, StoreError
from appliance.machine.complaint import Complaint
from appliance.machine.priority import lower_this_thread
from appliance.metrics.board import Numbers
from appliance.model.timestamps import EPOCH, seconds_between
from appliance.proofs import proof_book
from appliance.store.base import Backups, KeptBackup

#: Seconds until the first look, and between two.
_FIRST: Final = 2.0
_LOOK: Final = 5.0
#: Seconds until a proof for which there was no room is tried again.
_AGAIN: Final = 3600.0
#: Rest in times of the work before it.
_REST: Final = 3.0
#: Seconds that a stop waits for a proof to end; what is left is removed at the next start.
_CLOSING: Final = 2.0

_log: Any = structlog.get_logger(__name__)


class Prover:
    """Used by one thread, but for `numbers`."""

    def __init__(self, config: Config, backups: Backups, stop: threading.Event) -> None:
        self._config = config
        self._backups = backups
        self._stop = stop
        self._worked = 0.0
        self._complaint = Complaint(_log, "backup not proven", "backups are proven again")
        self.book = proof_book.read(config)

    def look(self, now: float) -> None:
        """Prove the newest backup where that is due; `now` is the Unix time. Raises StoreError."""
        newest = next(iter(self._backups.kept()), None)
        self.book = proof_book.read(self._config)
        if newest is None or not self._is_due(newest, now):
            return
        self._worked = time.monotonic()
        try:
            proof = self._backups.prove(self._backups.folder / newest.name, self._rested)
        except BackupRoomError as error:
            self.book = proof_book.enter_lack_of_room(self._config, newest.name, error)
            self._complaint.fails(kind="room", backup=newest.name, reason=str(error))
            return
        if self._stop.is_set():
            return
        self.book = proof_book.enter(self._config, proof, newest.made_at)
        if proof.is_proven:
            self._complaint.works()
            _log.info(
                "backup proven",
                backup=proof.backup,
                messages=proof.messages,
                compared=proof.compared,
                seconds=proof.seconds,
                notes=proof.notes,
            )
        else:
            self._complaint.fails(kind=newest.name, backup=newest.name, reason=proof.faults[0])

    def numbers(self) -> Numbers:
        """Return when the newest proven backup was proven and made, for the board."""
        proven = self.book.proven
        if proven is None:
            return Numbers()
        return Numbers(
            gauges={
                "backup_restorable_timestamp_seconds": seconds_between(EPOCH, proven.proven_at),
                "backup_restorable_made_timestamp_seconds": seconds_between(EPOCH, proven.made_at),
            }
        )

    def _is_due(self, newest: KeptBackup, now: float) -> bool:
        last = self.book.last
        if last is None:
            return True
        age = now - seconds_between(EPOCH, last.at)
        if last.outcome == proof_book.NOT_ATTEMPTED:
            return not 0 <= age < _AGAIN
        if last.outcome == proof_book.FAILED and last.backup != newest.name:
            return True  # the one that was made since may be better
        return not 0 <= age < self._config.backup_prove_every  # one from the future does not count

    def _rested(self, _step: str, _share: float | None) -> bool:
        """Rest for a multiple of the time since the last rest; return whether to go on."""
        worked = time.monotonic() - self._worked
        stopped = self._stop.wait(_REST * min(worked, 1.0))
        self._worked = time.monotonic()
        return not stopped

    def attempt(self) -> None:
        """Look once; what goes wrong is logged once."""
        try:
            self.look(time.time())
        except BackupBusyError:  # somebody proves one by hand
            return
        except StoreError as error:
            if not self._stop.is_set():
                self._complaint.fails(kind=type(error).__name__, reason=str(error))


@contextlib.contextmanager
def proving(config: Config, backups: Backups) -> Iterator[Prover]:
    """Prove backups for the time of the block, where the settings have them proven."""
    stop = threading.Event()
    prover = Prover(config, backups, stop)

    def run() -> None:
        lower_this_thread()
        with contextlib.suppress(StoreError):
            backups.clear_proof()
        pause = _FIRST
        while config.backup_prove_every and not stop.wait(pause):
            pause = _LOOK
            try:
                prover.attempt()
            except Exception:  # noqa: BLE001  # the next one may be better
                _log.exception("proof of a backup broken")

    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(run,), name="proofs", daemon=True)
    thread.start()
    try:
        yield prover
    finally:
        stop.set()
        thread.join(_CLOSING)
