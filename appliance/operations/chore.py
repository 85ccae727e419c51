"""A chore runs in a thread of its own, once at a time, and its last outcome is kept.

A check of the whole database takes minutes: no request waits for it, and none of the API's threads
is held by it. Whoever asks meanwhile is told how far it is, by whichever of the API's processes.
"""

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from appliance.errors import ApplianceError
from appliance.machine import files, locks
from appliance.model import timestamps

#: Bytes of a kept outcome that are read; it has some hundred lines at most.
_MOST_BYTES: Final = 2**20
#: Bytes in which a chore under way tells how far it is.
_TOLD_BYTES: Final = 1024
#: Seconds between two looks at a chore of another process, and for which those who look can hold
#: its lock together.
_PAUSE: Final = 0.1
_LOOKERS_SECONDS: Final = 0.3

_log: Any = structlog.get_logger(__name__)

#: Told the name of the step, and the share that is done (0 to 1) where it is known.
Report = Callable[[str, float | None], None]
#: What is to be done; returns the outcome as JSON has it. Raises ApplianceError.
Work = Callable[[Report], Mapping[str, Any]]


@dataclass(frozen=True)
class Running:
    """A chore under way. `share` is what is done of the step, where that is known."""

    began_at: str
    seconds: float
    by: str
    step: str
    share: float | None


@dataclass(frozen=True)
class Outcome:
    """How a chore ended: with a result, or with an error in words that a client may see."""

    began_at: str
    ended_at: str
    seconds: float
    by: str
    result: Mapping[str, Any] | None = None
    error: str | None = None


class Chore:
    """One kind of work. Used by any thread.

    It is under way once in all processes that share `folder`: a lock in it says so, whose file
    tells how far it is, and the last outcome is kept there. `name` is that of the files, and for
    the log. `kept` is another file for the outcome, which is to outlive the folder.
    """

    def __init__(self, name: str, work: Work, folder: Path, kept: Path | None = None) -> None:
        self._name = name
        self._work = work
        self._file = folder / name
        self._kept = kept or folder / f"{name}.json"
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._ended.set()
        self._began = 0.0
        self._running: tuple[str, str, str, float | None] | None = None  # begun, by, step, share
        self._descriptor: int | None = None  # of the lock
        self._last: Outcome | None = None
        self._read_ns = -1  # when the file that it was read from had been written
        self._trouble: ApplianceError | None = None

    def begin(self, by: str) -> bool:
        """Begin, unless it is under way; return whether it was begun. `by` names who asks."""
        with self._lock:
            if self._running is not None or not self._take():
                return False
            self._began = time.monotonic()
            self._running = timestamps.now(), by, "starting", None
            self._trouble = None
            self._ended.clear()
            self._tell()
        threading.Thread(target=self._run, name=self._name, daemon=True).start()
        return True

    def wait(self, seconds: float) -> bool:
        """Wait until it is not under way; return whether that is so."""
        end = time.monotonic() + seconds
        if not self._ended.wait(seconds):
            return False
        while self._is_elsewhere():
            if time.monotonic() >= end:
                return False
            time.sleep(_PAUSE)
        return True

    @property
    def running(self) -> Running | None:
        """How far it is; None where it is not under way."""
        with self._lock:
            if self._running is not None:
                begun, by, step, share = self._running
                return Running(begun, round(time.monotonic() - self._began, 1), by, step, share)
        return self._elsewhere()

    @property
    def last(self) -> Outcome | None:
        """How it ended last; None where it never ran."""
        with self._lock:
            with contextlib.suppress(OSError):
                written_ns = self._kept.stat().st_mtime_ns
                if written_ns != self._read_ns:
                    self._read_ns = written_ns
                    self._last = _read(self._kept) or self._last
            return self._last

    def fail(self) -> None:
        """Raise the error with which it ended last, if it did so since it was last begun."""
        if self._trouble is not None:
            raise self._trouble

    def state(self) -> dict[str, Any]:
        """Return `running` and `last` as JSON has them."""
        running, last = self.running, self.last
        return {
            "running": None if running is None else asdict(running),
            "last": None if last is None else asdict(last),
        }

    def _run(self) -> None:
        result, error = None, None
        try:
            result = dict(self._work(self._report))
        except ApplianceError as trouble:
            self._trouble, error = trouble, trouble.public
            _log.warning("chore failed", chore=self._name, error=str(trouble))
        except Exception:  # noqa: BLE001  # whatever it is, the next one can begin
            error = "it failed; the appliance's log has the details"
            _log.exception("chore broken", chore=self._name)
        with self._lock:
            begun, by, _, _ = self._running or ("", "", "", None)
            seconds = round(time.monotonic() - self._began, 2)
            self._last = Outcome(begun, timestamps.now(), seconds, by, result, error)
            self._keep(self._last)
            self._running = None
            self._let_go()
        self._ended.set()

    def _report(self, step: str, share: float | None) -> None:
        with self._lock:
            if self._running is not None:
                self._running = (*self._running[:2], step, share)
                self._tell()

    def _keep(self, outcome: Outcome) -> None:
        try:
            files.write_private(self._kept, json.dumps(asdict(outcome)) + "\n")
            self._read_ns = self._kept.stat().st_mtime_ns
        except OSError as error:  # a full disk: whoever asks this process gets it all the same
            _log.warning("outcome not kept", chore=self._name, error=str(error))

    # --- among processes ------------------------------------------------------------------------

    def _take(self) -> bool:
        """Take the lock; whether no other process has it. Without room for it, nobody has it."""
        try:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor = locks.open_file(self._file)
            # Whoever looks holds it for a moment too.
            locks.take(self._descriptor, patience=_LOOKERS_SECONDS)
        except BlockingIOError:
            self._let_go()
            return False
        except OSError as error:
            _log.warning("chore not announced", chore=self._name, error=str(error))
            self._let_go()
        return True

    def _let_go(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _tell(self) -> None:
        """Tell the other processes how far it is."""
        if self._descriptor is None or self._running is None:
            return
        text = json.dumps([self._began, *self._running]).encode()[:_TOLD_BYTES]
        with contextlib.suppress(OSError):
            os.pwrite(self._descriptor, text.ljust(_TOLD_BYTES), 0)

    def _is_elsewhere(self) -> bool:
        try:
            return locks.is_held(self._file)
        except OSError:
            return False

    def _elsewhere(self) -> Running | None:
        """How far it is in another process; None where it is under way in none."""
        if not self._is_elsewhere():
            return None
        try:
            with self._file.open("rb") as file:
                began, begun, by, step, share = json.loads(file.read(_TOLD_BYTES))
            return Running(begun, round(time.monotonic() - began, 1), by, step, share)
        except (OSError, ValueError, TypeError):  # it has only just begun
            return Running(timestamps.now(), 0.0, "", "starting", None)


def _read(path: Path) -> Outcome | None:
    """Return what an earlier process, or another one, kept; None where there is nothing of ours."""
    try:
        with path.open("rb") as file:
            return Outcome(**json.loads(file.read(_MOST_BYTES)))
    except (OSError, ValueError, TypeError):
        return None
