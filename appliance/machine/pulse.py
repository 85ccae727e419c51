"""The pulse of a process: a sign of life that comes from its work loop, so that a hang shows.

A loop calls `beat` as often as it likes; that only sets a flag. A thread looks at the flags once a
second and passes the sign on, so no loop ever waits for a disk or a socket because of it. A
process that works in several loops names them: it lives while *all* of them do.

The sign goes two ways:

- to systemd, where that started us: sd_notify's READY=1, STATUS=, WATCHDOG=1, STOPPING=1;
- into a file below the run folder, which `signs` reads: for supervisord's listener, which restarts
  what hangs, and for the API, which says so.

The file is written in place, never longer than when it was made, so a full disk doesn't stop a
pulse that has begun. Its lock says that the process is still there, in whatever namespace.
"""

import asyncio
import contextlib
import contextvars
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Self

import structlog

from appliance.config import Config

#: Seconds between two beats of a loop that has nothing else to do; less than any pace below.
BEAT_SECONDS: Final = 0.5
#: A fact: why the process can't do its work now, in words for everyone's eyes; empty: it can.
TROUBLE: Final = "trouble"
#: Seconds between two looks at the flags; less where systemd's watchdog wants it sooner.
_PACE: Final = 1.0
#: Seconds between two status texts, which are for people.
_STATUS_PACE: Final = 3.0
#: Bytes of the file, and characters of a status text.
_FILE_BYTES: Final = 2048
_STATUS_LENGTH: Final = 200

_log: Any = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Sign:
    """What a living process said last.

    `beats` grows while it works, `seconds_ago` is since it last grew; `state` is `starting`,
    `ready` or `stopping`; `facts` are what it tells other processes, each under a name.
    """

    process: str
    pid: int
    beats: int
    seconds_ago: float
    state: str
    status: str
    facts: Mapping[str, Any] = field(default_factory=dict)


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
        self._file = _File(config.run_folder / "pulse", process)
        self._systemd = _Systemd(environ)
        self._wake, self._ending = threading.Event(), False
        context = contextvars.copy_context()  # what the log's lines say of this process
        self._thread = threading.Thread(
            target=context.run, args=(self._run,), name="pulse", daemon=True
        )

    def beat(self, loop: str = "") -> None:
        """Say that `loop` works (the first where none is named). Costs next to nothing."""
        self._flags[loop or self._first] = True

    async def keep_beating(self, loop: str = "") -> None:
        """Beat for the running event loop, until cancelled."""
        while True:
            self.beat(loop)
            await asyncio.sleep(BEAT_SECONDS)

    def ready(self) -> None:
        """Say that the work has begun; again does nothing."""
        if self._state == "starting":
            self._state = "ready"
            self._wake.set()

    def status(self, text: str) -> None:
        """Say in a line for people what it does."""
        self._status = text[:_STATUS_LENGTH]

    def tell(self, name: str, fact: Any) -> None:
        """Tell the other processes a fact: a few numbers and words."""
        self._facts = {**self._facts, name: fact}

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
        pace = min(_PACE, self._systemd.watchdog_seconds / 4)
        while not self._ending:
            self._wake.wait(pace)
            self._wake.clear()
            self._pass_on()

    def _pass_on(self) -> None:
        if alive := all(self._flags.values()):
            for loop in self._flags:
                self._flags[loop] = False
            self._beats, self._beat_at = self._beats + 1, time.monotonic()
        self._systemd.tell(self._state, self._status, alive=alive)
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


class _Systemd:
    """sd_notify(3), where `NOTIFY_SOCKET` says that systemd listens."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        watched = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        usec = environ.get("WATCHDOG_USEC", "") if watched else ""
        #: Seconds without a sign after which systemd restarts us; infinite where it doesn't.
        self.watchdog_seconds = int(usec) / 1e6 if usec.isdecimal() and int(usec) else float("inf")
        self._told = ("", "")
        self._told_at = -_STATUS_PACE

    def tell(self, state: str, status: str, *, alive: bool) -> None:
        if not self._address:
            return
        lines = ["WATCHDOG=1"] if alive and self.watchdog_seconds < float("inf") else []
        now, changed = time.monotonic(), state != self._told[0]
        if changed and state != "starting":
            lines.append("READY=1" if state == "ready" else "STOPPING=1")
        told = self._told
        if changed or (status != told[1] and now - self._told_at >= _STATUS_PACE):
            lines.append(f"STATUS={status}")
            told = (state, status)
        if lines and self._send("\n".join(lines)) and told is not self._told:
            self._told, self._told_at = told, now

    def _send(self, text: str) -> bool:
        """Send a datagram; what could not be sent is said again with the next sign."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as link:
                link.settimeout(_PACE)
                link.sendto(text.encode(), self._address)
        except OSError as error:
            _log.debug("systemd can't be told", error=str(error))
            return False
        return True


class _File:
    """One record of constant length, locked for as long as its process lives."""

    def __init__(self, folder: Path, process: str) -> None:
        self._folder = folder
        self._path = folder / f"{process}-{os.getpid()}"
        self._descriptor: int | None = None
        self._failed = False

    def write(self, record: Mapping[str, Any]) -> None:
        """Write it; where that fails it is tried again with the next one."""
        text = json.dumps(record).encode()
        if len(text) >= _FILE_BYTES:
            return
        content = text.ljust(_FILE_BYTES - 1) + b"\n"
        try:
            if self._descriptor is None:
                self._descriptor = self._make(content)
            else:
                os.pwrite(self._descriptor, content, 0)
        except OSError as error:
            if not self._failed:
                _log.warning("pulse can't be written", file=str(self._path), error=str(error))
            self._failed = True
        else:
            self._failed = False

    def close(self) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None

    def _make(self, content: bytes) -> int:
        """Make the file, under a name that no reader heeds until it is locked and written."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _remove_dead(self._folder)
        draft = self._folder / f".{self._path.name}"
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.pwrite(descriptor, content, 0)
            draft.rename(self._path)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor


def signs(config: Config) -> list[Sign]:
    """Return the signs of all processes that are there, working or hung."""
    found = []
    for path in _files(config.run_folder / "pulse"):
        # What can't be parsed is written just now; the next look finds it.
        with contextlib.suppress(OSError, KeyError, TypeError, ValueError), path.open("rb") as file:
            if _locked(file):
                record = json.loads(file.read(_FILE_BYTES))
                ago = max(0.0, time.monotonic() - record.pop("beat_at"))
                found.append(Sign(seconds_ago=ago, **record))
    return found


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob("*-*")) if not path.name.startswith(".")]


def _locked(file: BinaryIO) -> bool:
    """Whether the process that wrote the file is still there, working or hung."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _remove_dead(folder: Path) -> None:
    for path in _files(folder):
        with contextlib.suppress(OSError), path.open("rb") as file:
            if not _locked(file):
                path.unlink()
