"""The appliance in a container of its image, its volume on a disk that the power can be cut from.

What the image has and the host may not: the RabbitMQ of Debian 13.
"""

import os
import subprocess
from pathlib import Path
from typing import Any

import httpx
from cuts import Bench
from engine import Container, docker
from harness import Folder, wait_until

#: The number of the image's user.
USER = 10001
TOKEN = "a-token-for-tests-only"


class Contained(Folder):
    """A container on the data folder `data`, as Bench uses a Stack."""

    def __init__(self, data: Path, options: tuple[str, ...] = ()) -> None:
        self.data = data
        self.token = TOKEN
        self.url = ""
        self._options = options
        self._container: Container | None = None

    @property
    def container(self) -> Container:
        assert self._container is not None, "not started"
        return self._container

    def begin(self) -> None:
        """Start it, and don't wait."""
        self.data.mkdir(mode=0o700, exist_ok=True)
        os.chown(self.data, USER, USER)
        self._container = Container(
            str(self.data), "--env", f"APPLIANCE_TOKEN={TOKEN}", *self._options
        )
        port = docker("port", self.container.name, "8080/tcp").split()[0].rpartition(":")[2]
        self.url = f"http://127.0.0.1:{port}"

    def start(self) -> "Contained":
        self.begin()
        self.container.wait_ready()
        return self

    def close(self) -> None:
        if self._container is not None:
            self._container.remove()
            self._container = None

    def publish(self, topic: str, body: str, **headers: str) -> httpx.Response:
        return self.container.publish(topic, body, **headers)

    def cli(self, *arguments: str, **_: Any) -> subprocess.CompletedProcess:
        command = ["docker", "exec", self.container.name, "appliance", *arguments]
        return subprocess.run(command, capture_output=True, check=False, timeout=120)

    def logs(self) -> str:
        return self.container.logs[-4000:]


class ContainedBench(Bench):
    """The same cuts, of a container."""

    options: tuple[str, ...] = ()

    def _stack(self, name: str, workers: int = 1) -> Contained:
        return Contained(self.disk.files / "data", self.options)

    def boot(self, stack: Contained) -> None:
        """All starts at once; the broker needs seconds, the database does not."""
        stack.begin()
        wait_until(lambda: has_schema(stack), "the database is there", 60, stack.logs)

    def go(self, stack: Contained) -> None:
        stack.container.wait_ready()

    def drain(self, stack: Contained) -> None:
        """`appliance verify` looks at the queue."""


def has_schema(stack: Contained) -> bool:
    if not stack.database.exists() or not stack.database.stat().st_size:
        return False
    return bool(stack.query("SELECT 1 FROM sqlite_schema WHERE name = 'messages'"))
