"""A scratch appliance: `appliance run` on a folder, ports and a token of its own."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Final

from appliance import config as configuration
from appliance import credentials
from appliance.client import ApiConnection, NoAnswerError
from appliance.config import PREFIX, Config
from appliance.errors import ApplianceError, FolderError
from appliance.supervision import plugin, processes

#: Settings that say where an appliance is and who may use it. The scratch one has its own; all
#: others (workers, limits, time-outs) it takes over, since they are part of what is tried.
_OWN: Final = (
    "DATA", "RUN", "HTTP", "TLS_CERT", "TLS_KEY", "TOKEN", "AMQP", "AMQPS", "MQTT", "MQTTS",
    "BROKER_URL", "URL", "LOG_FORMAT",
)  # fmt: skip
#: Seconds for an answer to a question about its state.
_ASK_SECONDS: Final = 5.0
#: Seconds; supervisord's stop times add up to less.
_END_SECONDS: Final = 60.0
#: Bytes of the longest path of a folder below which supervisord's socket still fits.
_LONGEST_PATH: Final = 70
_LOG_LINES: Final = 15


def make_folder(wanted: Path | None, data: Path) -> Path:
    """Return an empty folder for the scratch appliance: `wanted`, or a new one near the data.

    Raises FolderError for one that holds anything or can't be written to.
    """
    try:
        if wanted is None:
            near = next(p for p in (data, *data.parents) if p.is_dir())
            return Path(tempfile.mkdtemp(prefix="drill-", dir=near))
        wanted = wanted.absolute()
        wanted.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(wanted.iterdir()):
            raise FolderError(
                f"--data: {wanted} is not empty; a drill takes a new folder, or an empty one"
            )
        if not os.access(wanted, os.W_OK | os.X_OK):
            raise FolderError(f"--data: {wanted} can't be written to by user {os.getuid()}")
    except OSError as error:
        raise FolderError(f"--data: {error.filename} can't be used: {error.strerror}") from error
    return wanted


class Scratch:
    """One scratch appliance in `folder`. It ends when this process does, however that ends."""

    def __init__(self, folder: Path, environ: Mapping[str, str], *, mqtt: bool = False) -> None:
        self.folder = folder
        self.log = folder / "output.log"
        self._run_folder: Path | None = None
        own = {PREFIX + name for name in _OWN}
        own |= {f"{name}_FILE" for name in own}
        self._environ = {name: value for name, value in environ.items() if name not in own}
        self._environ[f"{PREFIX}DATA"] = str(folder / "data")
        self._environ[f"{PREFIX}HTTP"] = f"127.0.0.1:{_free_port()}"
        if mqtt:
            self._environ[f"{PREFIX}MQTT"] = f"127.0.0.1:{_free_port()}"
        self._environ[f"{PREFIX}LOG_FORMAT"] = "json"
        if len(os.fsencode(folder)) > _LONGEST_PATH:
            self._run_folder = Path(tempfile.mkdtemp(prefix="appliance-drill-"))
            self._environ[f"{PREFIX}RUN"] = str(self._run_folder)
        self.config: Config = configuration.load(self._environ)
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Address of its API."""
        return self.config.own_url

    @property
    def token(self) -> str:
        """Its administrator's token."""
        return credentials.token(self.config)

    @property
    def status(self) -> int | None:
        """Exit status; None while it runs."""
        return self._popen.poll() if self._popen else None

    def start(self) -> None:
        """Start it. Raises ApplianceError."""
        self.config.data.mkdir(mode=0o700)
        command = [sys.executable, "-m", "appliance", "run"]
        with self.log.open("ab") as output:
            self._popen = subprocess.Popen(
                command, env=self._environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                preexec_fn=plugin.own_group_ended_with(os.getpid()),  # noqa: PLW1509  # no threads
            )  # fmt: skip

    def wait_ready(self, seconds: float, *, give_up: Callable[[], bool]) -> bool:
        """Wait until a message sent now would be stored; False where `give_up` returns true first.

        Raises ApplianceError where it ends instead, or takes longer.
        """
        deadline = time.monotonic() + seconds
        while not give_up():
            self.check_alive()
            if self.ask("/readyz") is not None:
                return True
            if time.monotonic() > deadline:
                raise ApplianceError(
                    f"the scratch appliance was not ready within {seconds:g} s; {self.last_words()}"
                )
            time.sleep(0.1)
        return False

    def check_alive(self) -> None:
        """Raise ApplianceError where it has ended by itself."""
        if self.status is not None:
            raise ApplianceError(
                f"the scratch appliance ended with status {self.status}; {self.last_words()}"
            )

    def ask(self, path: str) -> Any:
        """GET from its API; None where it gives no good answer."""
        headers = {"Authorization": f"Bearer {self.token}"}
        with contextlib.closing(ApiConnection(self.url, headers, _ASK_SECONDS)) as link:
            try:
                answer = link.send("GET", path)
                return json.loads(answer.body) if answer.status == 200 else None
            except (*NoAnswerError, ValueError):
                return None

    def processes(self) -> dict[str, int]:
        """Return the processes that supervisord calls running: name -> pid."""
        return {
            state.name: state.pid
            for state in processes.read(self.config)
            if state.state == "RUNNING" and state.pid
        }

    def end(self) -> int:
        """Ask it to end, kill it if it does not in its time, and return its exit status."""
        if self._popen is None:
            return 0
        if self._popen.poll() is None:
            self._popen.send_signal(signal.SIGTERM)
        try:
            return self._popen.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            return self._popen.wait()

    def remove(self, *, keep: bool) -> None:
        """Delete its files; with `keep` only those that are no data."""
        if self._run_folder:
            shutil.rmtree(self._run_folder, ignore_errors=True)
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def last_words(self) -> str:
        """Return the last lines of its log, for people."""
        with self.log.open("rb") as log:
            lines = _tail(log)
        return "the end of its log:\n" + "\n".join(lines)


def _tail(log: IO[bytes]) -> list[str]:
    size = log.seek(0, os.SEEK_END)
    log.seek(max(0, size - 16_384))
    return log.read().decode(errors="replace").splitlines()[-_LOG_LINES:]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
