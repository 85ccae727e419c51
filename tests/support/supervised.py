"""The whole appliance as a user starts it: `appliance run`, supervisord and all."""

import os
import signal
import subprocess
from pathlib import Path

import httpx
from harness import (
    APPLIANCE,
    START_SECONDS,
    Folder,
    environment,
    free_amqp_port,
    free_port,
    wait_until,
)

from appliance import credentials
from appliance.supervision import processes


class Appliance(Folder):
    """One data folder, and the `appliance run` on it."""

    def __init__(self, folder: Path, **settings: str):
        self.data = folder / "var"
        self.log_path = folder / "output.log"
        self.errors_path = folder / "errors.log"
        self.http = f"127.0.0.1:{free_port()}"
        self.settings = {
            "APPLIANCE_HTTP": self.http,
            "APPLIANCE_AMQP": f"127.0.0.1:{free_amqp_port()}",
            "APPLIANCE_LOG_FORMAT": "auto",
            "APPLIANCE_API_PROCESSES": "1",  # on whatever machine
            **settings,
        }
        #: One for all requests: to make one takes far longer than to ask.
        self.client = httpx.Client(base_url=self.url, timeout=30, trust_env=False)
        self.command = [APPLIANCE, "run"]
        self.popen: subprocess.Popen | None = None
        self.session: int | None = None

    @property
    def env(self) -> dict[str, str]:
        return environment(self.data, **self.settings)

    @property
    def log(self) -> str:
        parts = [p.read_text(errors="replace") for p in (self.errors_path, self.log_path)]
        return "\n".join(parts)

    def start(self, **options: object) -> "Appliance":
        with self.log_path.open("ab") as output, self.errors_path.open("ab") as errors:
            self.popen = subprocess.Popen(
                self.command,
                env=self.env,
                **{
                    "stdin": subprocess.DEVNULL,
                    "stdout": output,
                    "stderr": errors,
                    "start_new_session": True,
                    **options,
                },
            )
        self.session = self.popen.pid
        return self

    def wait_ready(self) -> "Appliance":
        wait_until(self.ready, "ready", START_SECONDS, lambda: self.log)
        return self

    @property
    def url(self) -> str:
        return f"http://{self.http}"

    @property
    def token(self) -> str:
        return credentials.token(self.config)

    def logs(self) -> str:
        """Return the last lines of what it said."""
        return "\n".join(self.log.splitlines()[-60:])

    def ready(self) -> bool:
        assert self.popen.poll() is None, self.log
        try:
            return self.client.get("/readyz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def end(self, number: int = signal.SIGTERM, seconds: float = 45) -> int:
        """Ask it to end; return its status. Nothing may be left running."""
        self.popen.send_signal(number)
        status = self.popen.wait(seconds)
        assert self.left() == []
        return status

    def wait_end(self, seconds: float) -> int:
        status = self.popen.wait(seconds)
        assert self.left() == []
        return status

    def left(self) -> list[str]:
        """Commands of the processes that are still there of this run's session."""
        return [command for _, command in in_session(self.session)]

    def clear(self):
        """End whatever a failed test left."""
        self.client.close()
        for pid, _ in in_session(self.session) if self.session else []:
            os.kill(pid, signal.SIGKILL)
        if self.popen:
            self.popen.wait()

    def cli(self, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [APPLIANCE, *arguments],
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
            **{"timeout": 60, **options},
        )

    def ctl(self, *arguments: str) -> str:
        return self.cli("ctl", *arguments).stdout

    def states(self) -> dict[str, str]:
        """Name -> state of each program, as supervisord tells programs."""
        return {each.name: each.state for each in processes.read(self.config)}

    def pid(self, program: str) -> int | None:
        """Return the program's pid once supervisord calls it RUNNING."""
        pids = {e.name: e.pid for e in processes.read(self.config) if e.state == "RUNNING"}
        return pids.get(program)

    def publish(self, topic: str, body: str) -> str:
        answer = self.client.post(
            f"/v1/topics/{topic}/messages",
            content=body,
            headers={"Authorization": f"Bearer {(self.data / 'token').read_text().strip()}"},
        )
        assert answer.status_code == 202, (answer.text, self.log)
        return answer.json()["id"]

    def bodies(self, topic: str) -> list[str]:
        rows = self.query("SELECT body FROM messages WHERE topic = ? ORDER BY seq", topic)
        return [row["body"] for row in rows]

    def stored(self, topic: str, *bodies: str):
        wait_until(
            lambda: self.bodies(topic) == list(bodies),
            f"{topic}: {bodies}",
            more=lambda: f"{self.bodies(topic)}\n{self.log}",
        )


def in_session(session: int) -> list[tuple[int, str]]:
    """Every process of a session: none of ours leaves it, though each has a group of its own."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                # Other tests have processes whose arguments and names are no text.
                stat = (entry / "stat").read_text(errors="replace")
                state, _, _, sid = stat.rpartition(")")[2].split()[:4]
                command = (entry / "cmdline").read_text(errors="replace").replace("\0", " ")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(sid) == session and state != "Z":
                found.append((int(entry.name), command))
    return found
