"""A chore runs in a thread of its own, once at a time, and its last outcome is kept.

A check of the whole database takes minutes: no request waits for it, and none of the API's threads
is held by it. Whoever asks meanwhile is told how far it is.
"""

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from appliance.errors import ApplianceError
from appliance.machine import files
from appliance.model import timestamps

#: Bytes of a kept outcome that are read; it has some hundred lines at most.
_MOST_BYTES: Final = 2**20

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

    `name` is for the log. The last outcome is kept in the file `kept`, where one is named, so that
    it is still there after a restart.
    """

    def __init__(self, name: str, work: Work, kept: Path | None = None) -> None:
        self._name = name
        self._work = work
        self._kept = kept
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._ended.set()
        self._began = 0.0
        self._running: tuple[str, str, str, float | None] | None = None  # begun, by, step, share
        self._last: Outcome | None = None
        self._is_read = kept is None
        self._trouble: ApplianceError | None = None

    def begin(self, by: str) -> bool:
        """Begin, unless it is under way; return whether it was begun. `by` names who asks."""
        with self._lock:
            if self._running is not None:
                return False
            self._began = time.monotonic()
            self._running = timestamps.now(), by, "starting", None
            self._trouble = None
            self._ended.clear()
        threading.Thread(target=self._run, name=self._name, daemon=True).start()
        return True

    def wait(self, seconds: float) -> bool:
        """Wait until it is not under way; return whether that is so."""
        return self._ended.wait(seconds)

    @property
    def running(self) -> Running | None:
        """How far it is; None where it is not under way."""
        with self._lock:
            if self._running is None:
                return None
            begun, by, step, share = self._running
            return Running(begun, round(time.monotonic() - self._began, 1), by, step, share)

    @property
    def last(self) -> Outcome | None:
        """How it ended last; None where it never ran."""
        with self._lock:
            if not self._is_read:
                self._is_read = True
                self._last = self._last or _read(self._kept)
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
            self._is_read = True
            self._running = None
            outcome = self._last
        self._keep(outcome)
        self._ended.set()

    def _report(self, step: str, share: float | None) -> None:
        with self._lock:
            if self._running is not None:
                self._running = (*self._running[:2], step, share)

    def _keep(self, outcome: Outcome) -> None:
        if self._kept is None:
            return
        try:
            files.write_private(self._kept, json.dumps(asdict(outcome)) + "\n")
        except OSError as error:  # a full disk: whoever asks this process gets it all the same
            _log.warning("outcome not kept", chore=self._name, error=str(error))


def _read(path: Path | None) -> Outcome | None:
    """Return what an earlier process kept; None where there is nothing of ours."""
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            return Outcome(**json.loads(file.read(_MOST_BYTES)))
    except (OSError, ValueError, TypeError):
        return None
