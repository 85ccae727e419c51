"""The pulse of a process: a sign of life that comes from its work loop, so that a hang shows.

A loop calls `beat` as often as it likes; that only sets a flag. A thread looks at the flags once a
second and passes the sign on, so no loop ever waits for a disk or a socket because of it. A
process that works in several loops names them: it lives while *all* of them do.

The sign goes two ways:

- to systemd, where that started us: sd_notify's READY=1, STATUS=, WATCHDOG=1, STOPPING=1;
- into a file below the run folder, which `signs` reads: for supervisord's listener, which restarts
  a process that hangs, and for the API, which reports it.

The file is written in place, never longer than when it was made, so a full disk doesn't stop a
pulse that has begun. Its lock says that the process is still there, in whatever namespace.
"""

import asyncio
import contextlib
import contextvars
import json
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import structlog

from appliance.config import Config
from appliance.machine import locks, signs
from appliance.machine.complaint import Complaint
from appliance.machine.sd_notify import Notifier

#: Seconds between two beats of a loop that has nothing else to do; less than any pace below.
BEAT_SECONDS: Final = 0.5
#: A fact: why the process can't do its work now, in words that a client may see; empty: it can.
TROUBLE: Final = "trouble"
#: Seconds between two looks at the flags; less where systemd's watchdog wants it sooner.
_PACE: Final = 1.0
#: Characters of a status text.
_STATUS_LENGTH: Final = 200

_log: Any = structlog.get_logger(__name__)


class Pulse:
    """The pulse of this process, which is called `process`; beats of all `loops` make one.

    A context manager: the sign is passed on within the block.
    """

    def __init__(
        self, config: Config, process: str, *loops: str, environ: Mapping[str, str] = os.environ
    ) -> None:
        self._process = process
        self._flags = dict.fromkeys(loops or (process,), False)
        self._first = next(iter(self._flags))
        self._beats, self._beat_at = 0, time.monotonic()
        self._state, self._status = "starting", "starting"
        self._facts: dict[str, Any] = {}
        self._file = _File(signs.folder(config), process)
        self._notifier = Notifier(environ)
        self._wake, self._ending = threading.Event(), False
        context = contextvars.copy_context()  # the values that every log line of this process has
        self._thread = threading.Thread(
            target=context.run, args=(self._run,), name="pulse", daemon=True
        )

    def beat(self, loop: str = "") -> None:
        """Say that `loop` works (the first loop by default). Costs next to nothing."""
        self._flags[loop or self._first] = True

    async def keep_beating(self, loop: str = "") -> None:
        """Beat for the running event loop, until cancelled."""
        while True:
            self.beat(loop)
            await asyncio.sleep(BEAT_SECONDS)

    def ready(self) -> None:
        """Say that the work has begun; a second call does nothing."""
        if self._state == "starting":
            self._state = "ready"
            self._wake.set()

    def status(self, text: str) -> None:
        """Set the line that tells people what the process does."""
        self._status = text[:_STATUS_LENGTH]

    def tell(self, name: str, fact: Any) -> None:
        """Tell the other processes a fact: a few numbers and words."""
        self._facts = {**self._facts, name: fact}
        self._wake.set()

    def stopping(self) -> None:
        """Say that the end has begun, which is no hang."""
        self._state = "stopping"
        self._wake.set()

    def __enter__(self) -> Self:
        self._pass_on()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ending = True
        self.stopping()
        self._thread.join()
        self._file.close()

    def _run(self) -> None:
        pace = min(_PACE, self._notifier.watchdog_seconds / 4)
        while not self._ending:
            self._wake.wait(pace)
            self._wake.clear()
            self._pass_on()

    def _pass_on(self) -> None:
        if alive := all(self._flags.values()):
            for loop in self._flags:
                self._flags[loop] = False
            self._beats, self._beat_at = self._beats + 1, time.monotonic()
        self._notifier.send(self._state, self._status, alive=alive)
        self._file.write(
            {
                "process": self._process,
                "pid": os.getpid(),
                "beats": self._beats,
                "beat_at": self._beat_at,
                "state": self._state,
                "status": self._status,
                "facts": self._facts,
            }
        )


class _File:
    """One record of constant length, locked for as long as its process lives."""

    def __init__(self, folder: Path, process: str) -> None:
        self._folder = folder
        self._path = folder / f"{process}-{os.getpid()}"
        self._descriptor: int | None = None
        self._complaint = Complaint(_log, "pulse not written", "pulse written again")

    def write(self, record: Mapping[str, Any]) -> None:
        """Write the record; where that fails, the next record is the next attempt."""
        text = json.dumps(record).encode()
        if len(text) >= signs.FILE_BYTES:
            return
        content = text.ljust(signs.FILE_BYTES - 1) + b"\n"
        try:
            if self._descriptor is None:
                self._descriptor = self._make(content)
            else:
                os.pwrite(self._descriptor, content, 0)
        except OSError as error:
            self._complaint.fails(file=str(self._path), error=str(error))
        else:
            self._complaint.works(file=str(self._path))

    def close(self) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None

    def _make(self, content: bytes) -> int:
        """Make the file, under a name that no reader heeds until it is locked and written."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        signs.remove_dead(self._folder)
        draft = self._folder / f".{self._path.name}"
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            locks.take(descriptor)
            os.pwrite(descriptor, content, 0)
            draft.rename(self._path)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor
