"""A container of the image, driven through the `docker` command as a user would drive it."""

import json
import os
import re
import subprocess
import time
import uuid
from collections.abc import Callable
from typing import Any

import httpx

IMAGE = os.environ.get("IMAGE", "queue-appliance")

#: What the README promises to work: nothing writable but the volume, no right beyond a user's.
HARDENED = (
    "--read-only", "--tmpfs", "/tmp", "--tmpfs", "/run",
    "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
)  # fmt: skip

#: A machine may lack the right to raise the limit, and may log to where `docker logs` can't read.
ENGINE = ("--ulimit", "nofile=20000:20000", "--log-driver", "json-file")

#: Seconds. A start takes 5 to 8 on an idle machine with two cores.
START_SECONDS = 90.0


def docker(*arguments: str, check: bool = True, timeout: float = 120.0) -> str:
    """What a docker command prints, on both outputs. Fails where there is no engine."""
    done = subprocess.run(
        ["docker", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert not check or done.returncode == 0, f"docker {' '.join(arguments)}:\n{done.stdout}"
    return done.stdout


def run_to_its_end(*options: str) -> tuple[int, str]:
    """Run a container in the foreground; return its exit status and all it printed."""
    done = subprocess.run(
        ["docker", "run", "--rm", *ENGINE, *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout


def wait_until(check: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    """Return the first true value of `check`; fail with `what` after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        if value := check():
            return value
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.1)


class Container:
    """One container of the image, on a volume that outlives it.

    `port` is where it is published; without one the engine chooses another at each start.
    """

    def __init__(self, volume: str, *options: str, port: int | str = "") -> None:
        self.name = f"appliance-test-{uuid.uuid4().hex[:12]}"
        docker(
            "run", "--detach", "--name", self.name, "--publish", f"127.0.0.1:{port}:8080",
            "--volume", f"{volume}:/data", *ENGINE, *options, IMAGE,
        )  # fmt: skip
        self._http: httpx.Client | None = None

    @property
    def http(self) -> httpx.Client:
        """A client for the published port, with the administrator's token."""
        if self._http is None:
            port = docker("port", self.name, "8080/tcp").split()[0].rpartition(":")[2]
            self._http = httpx.Client(
                base_url=f"http://127.0.0.1:{port}",
                headers={"Authorization": f"Bearer {self.exec('appliance', 'token').strip()}"},
                timeout=30,
            )
        return self._http

    def exec(self, *command: str, check: bool = True) -> str:
        """What `docker exec` of the command prints."""
        return docker("exec", self.name, *command, check=check)

    def inspect(self, template: str) -> Any:
        """What `docker inspect` says, by a template that yields JSON."""
        return json.loads(docker("inspect", "--format", f"{{{{json {template}}}}}", self.name))

    @property
    def logs(self) -> str:
        return docker("logs", self.name)

    def ready(self) -> bool:
        try:
            return self.http.get("/readyz").status_code == 200
        except (httpx.TransportError, AssertionError):
            return False

    def wait_ready(self) -> "Container":
        """Wait until a message sent now would be kept."""
        try:
            wait_until(self.ready, "the container is ready", START_SECONDS)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.logs}") from error
        return self

    def publish(self, topic: str, body: str | bytes, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.http.post(f"/v1/topics/{topic}/messages", content=body, headers=named)

    def store(self, topic: str, body: str) -> None:
        """Publish, again while it is refused, until the row is committed."""

        key = uuid.uuid4().hex  # makes trying again safe

        def stored() -> bool:
            try:
                answer = self.publish(topic, body, Prefer="wait=10", Idempotency_Key=key)
            except httpx.TransportError:
                return False
            assert answer.status_code in (201, 202, 503), answer.text
            return answer.status_code == 201

        wait_until(stored, f"{body!r} is stored", START_SECONDS)

    def bodies(self, topic: str) -> list[str]:
        """The bodies of a topic's rows as they were stored, read from the file on the volume."""
        rows = self.exec(
            "sqlite-utils", "/data/appliance.db",
            "select body from messages where topic = :topic order by seq", "-p", "topic", topic,
        )  # fmt: skip
        return [row["body"] for row in json.loads(rows)]

    def status(self) -> dict[str, tuple[str, int | None]]:
        """`supervisorctl status`: name -> state and pid."""
        found: dict[str, tuple[str, int | None]] = {}
        for line in self.exec("supervisorctl", "status", check=False).splitlines():
            if match := re.match(r"(\S+)\s+([A-Z]+)(?:\s+pid (\d+))?", line):
                found[match[1]] = (match[2], int(match[3]) if match[3] else None)
        return found

    def stop(self) -> tuple[float, int]:
        """`docker stop` as it comes; seconds it took and the exit status."""
        begin = time.monotonic()
        docker("stop", self.name)
        return time.monotonic() - begin, self.inspect(".State.ExitCode")

    def start_again(self) -> "Container":
        """`docker start`; the published port is another one then."""
        docker("start", self.name)
        self.disconnect()
        return self

    def disconnect(self) -> None:
        if self._http is not None:
            self._http.close()
            self._http = None

    def wait(self, seconds: float) -> int:
        """Wait for its end; the exit status."""
        return int(docker("wait", self.name, timeout=seconds))

    def remove(self) -> None:
        self.disconnect()
        docker("rm", "--force", self.name, check=False)
