"""The pulse of a process: a sign of life that comes from its work loop, so that a hang shows.

A loop calls `beat` as often as it likes; that only sets a flag. A thread looks at the flags once a
second and passes the sign on, so no loop ever waits for a disk or a socket because of it. A
process that works in several loops names them: it lives while *all* of them do.

The sign goes two ways:

- to systemd, where that started us: sd_notify's READY=1, STATUS=, WATCHDOG=1, STOPPING=1;
- into a file below the run folder, which `signs` reads: for supervisord's listener, which restarts
  a process that hangs, and for the API, which reports it.

The file is a record file: a full disk doesn't stop a pulse that has begun, and its lock says that
the process is still there.
"""

import contextvars
import os
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self

import structlog

from appliance.config import Config
from appliance.machine import signs
from appliance.machine.complaint import Complaint
from appliance.machine.record_file import RecordFile
from appliance.machine.sd_notify import Notifier
from appliance.machine.ticks import tick, until_tick

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
        folder = signs.folder(config)
        self._file = RecordFile(
            folder / f"{process}-{os.getpid()}",
            signs.FILE_BYTES,
            Complaint(_log, "pulse not written", "pulse written again"),
            lambda: signs.remove_dead(folder),
        )
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
            await tick(BEAT_SECONDS)

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
            self._wake.wait(until_tick(pace))
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
