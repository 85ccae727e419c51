"""The appliance's real processes on free ports and a temporary folder, for tests.

Every process is started in a session of its own and ended by its pid, so a test never touches
a broker or an API that someone else runs on the same machine.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import httpx
import pika

from appliance import config as configuration
from appliance import credentials
from appliance.broker import topology
from appliance.drill.check import StoredRow

APPLIANCE = str(Path(sys.executable).with_name("appliance"))

#: Seconds. RabbitMQ needs 3 to 4 when it has a core; the rest is for a busy machine.
START_SECONDS = 90.0


def wait_until(
    check: Callable[[], Any], what: str, timeout: float = 30.0, more: Callable[[], str] = str
) -> Any:
    """Return the first true value of `check`; fail with `what` after `timeout` seconds.

    What is there soon is seen soon; while something starts for seconds, looking for it again and
    again would take the processor away from it.
    """
    begin = time.monotonic()
    while True:
        if value := check():
            return value
        passed = time.monotonic() - begin
        if passed > timeout:
            raise AssertionError(f"not within {timeout:g} s: {what}\n{more()}")
        time.sleep(0.02 if passed < 1 else 0.1)


#: Below what the system gives to clients (32768 and up), and apart from the brokers' ports.
HTTP_PORTS = range(13_000, 30_000)
AMQP_PORTS = range(10_000, 12_700)


def free_port() -> int:
    """Return a TCP port of the loopback that no other test process uses."""
    return _reserve(HTTP_PORTS)


def free_amqp_port() -> int:
    """Return a port that is free together with the one for Erlang's distribution, 20000 above."""
    return _reserve(AMQP_PORTS, 20_000)


def _reserve(ports: range, *offsets: int) -> int:
    """Return one of `ports` that is free together with those `offsets` above it.

    Test processes run side by side, and whatever listens on the port starts later. So the port is
    also reserved among test processes, by a socket in the abstract namespace that is held until
    this process ends.
    """
    while True:
        port = random.choice(ports)
        reservation = socket.socket(socket.AF_UNIX)
        try:
            reservation.bind(f"\0queue-appliance-test-port-{port}")
            for each in (port, *(port + offset for offset in offsets)):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", each))
        except OSError:
            reservation.close()
        else:
            reservation.detach()
            return port


class Process:
    """One `appliance` command; can be ended and started again."""

    def __init__(self, name: str, env: dict[str, str], folder: Path) -> None:
        self.name = name.partition("-")[0]
        self.command = [APPLIANCE, self.name]
        self.env = env
        self.log_path = folder / f"{name}.log"
        self.popen: subprocess.Popen | None = None
        self._started_at = 0

    @property
    def pid(self) -> int:
        assert self.popen is not None
        return self.popen.pid

    @property
    def running(self) -> bool:
        return self.popen is not None and self.popen.poll() is None

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    @property
    def log_now(self) -> str:
        """Return what it logged since it was last started."""
        return self.log[self._started_at :]

    def start(self) -> None:
        assert not self.running
        self._started_at = len(self.log)
        with self.log_path.open("ab") as log:
            self.popen = subprocess.Popen(
                self.command,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def stop(self, timeout: float = 30.0) -> int:
        """Ask it to end, as a supervisor does; return its exit status."""
        return self._end(signal.SIGTERM, timeout)

    def kill(self) -> int:
        """End it as the kernel does: it can't clean up. Its children go with it."""
        return self._end(signal.SIGKILL, 30.0)

    def signal(self, number: int) -> None:
        """Send a signal, such as SIGSTOP, and go on."""
        os.killpg(self.pid, number)

    def _end(self, number: int, timeout: float) -> int:
        if self.popen is None:
            return 0
        if self.popen.poll() is None:
            if number == signal.SIGKILL:
                os.killpg(self.popen.pid, number)
            else:
                self.popen.send_signal(number)
        return self.popen.wait(timeout)


class Folder:
    """A data folder, and what anyone may ask of it: its settings, its rows, its broker."""

    data: Path
    env: dict[str, str]

    @property
    def config(self) -> configuration.Config:
        return configuration.load({k: v for k, v in self.env.items() if k.startswith("APPLIANCE_")})

    @property
    def database(self) -> Path:
        return self.data / "appliance.db"

    @property
    def broker_url(self) -> str:
        if self.config.broker_url:
            return self.config.broker_url
        password = credentials.broker_password(self.config)
        return f"amqp://appliance:{password}@{self.config.amqp}/"

    def query(self, sql: str, *values: Any) -> list[Any]:
        """Ask the database, as any program may while the appliance runs."""
        link = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=10)
        try:
            link.row_factory = sqlite3.Row
            return link.execute(sql, values).fetchall()
        finally:
            link.close()

    def check_sound(self) -> None:
        """Hold the database's file to SQLite's own check."""
        assert self.query("PRAGMA integrity_check")[0][0] == "ok"

    def count(self, topic: str | None = None) -> int:
        where = "" if topic is None else " WHERE topic = ?"
        values = () if topic is None else (topic,)
        return self.query(f"SELECT count(*) FROM messages{where}", *values)[0][0]

    def stored_rows(self, topics: Iterable[str]) -> list[StoredRow]:
        """Return the rows of these topics, in the order of storing."""
        found = self.query(
            "SELECT topic, id, body FROM messages WHERE topic IN (SELECT value FROM json_each(?)) "
            "ORDER BY seq",
            json.dumps(list(topics)),
        )
        return [StoredRow(*row) for row in found]

    def cli(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess:
        """Run an `appliance` command to its end."""
        options.setdefault("timeout", 120)
        options.setdefault("env", self.env)
        return subprocess.run([APPLIANCE, *arguments], capture_output=True, check=False, **options)


class Broker(Folder):
    """A RabbitMQ node of our own, through `appliance broker`."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self.port = free_amqp_port()
        self.data = Path(settings.pop("APPLIANCE_DATA", folder / "data"))
        self.process = Process("broker", {}, folder)
        self.configure(settings)

    def configure(self, settings: dict[str, str]) -> None:
        """Take over the settings of the stack that uses it; a running node keeps its own."""
        self.env = environment(self.data, APPLIANCE_AMQP=f"127.0.0.1:{self.port}", **settings)
        self.process.env = self.env

    @property
    def url(self) -> str:
        return self.broker_url

    def start(self) -> None:
        self.process.start()

    def wait(self) -> None:
        """Wait until it speaks AMQP."""
        wait_until(self._answers, "the broker speaks AMQP", START_SECONDS, lambda: self.process.log)

    def _answers(self) -> bool:
        assert self.process.running, self.process.log
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self.port), 5) as link,
        ):
            link.sendall(b"AMQP\0\0\x09\x01")
            return link.recv(1) == b"\x01"  # a method frame: Connection.Start
        return False

    def clear(self) -> bool:
        """Empty the queues of a running node, and the data folder of all but the node's files.

        Its API and workers must have ended. Returns False for a node that another stack must not
        get: one that does not run, does not answer, or lacks a queue.
        """
        if not self.process.running:
            return False
        address = pika.URLParameters(self.url)
        address.socket_timeout = address.stack_timeout = address.blocked_connection_timeout = 5
        try:
            with pika.BlockingConnection(address) as link:
                for queue in (topology.QUEUE, topology.DEAD):
                    wait_until(lambda q=queue: self._purged(link.channel(), q), f"{queue} is empty")
        except (pika.exceptions.AMQPError, OSError, AssertionError):
            return False
        for path in self.data.iterdir():
            if path.name != "broker":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        return True

    @staticmethod
    def _purged(channel: pika.channel.Channel, queue: str) -> bool:
        """Whether the queue has neither messages nor a consumer that may give some back."""
        channel.queue_purge(queue)
        queue_now = channel.queue_declare(queue, passive=True).method
        channel.close()
        return queue_now.message_count == queue_now.consumer_count == 0


class Stack(Folder):
    """Broker, API and workers on one data folder.

    `broker` may be one that runs already and was cleared.
    """

    def __init__(
        self, folder: Path, workers: int, settings: dict[str, Any], broker: Broker | None = None
    ) -> None:
        values = {f"APPLIANCE_{name.upper()}": str(value) for name, value in settings.items()}
        self.token = values.setdefault("APPLIANCE_TOKEN", "a-token-for-tests-only")
        address = values.setdefault("APPLIANCE_HTTP", f"127.0.0.1:{free_port()}")
        self.url = f"http://{address}"
        self.folder = folder
        if broker is None:
            self.broker = Broker(folder, values)
        else:
            self.broker = broker
            broker.configure(values)
        self.env = self.broker.env
        self.data = self.broker.data
        self.api = Process("api", self.env, folder)
        self.workers = [Process(f"worker-{n}", self.env, folder) for n in range(workers)]
        self.client = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=30,
            trust_env=False,
        )

    @property
    def processes(self) -> list[Process]:
        return [self.api, *self.workers, self.broker.process]

    def start(self) -> "Stack":
        """Start everything at once, as a supervisor does, and wait until it is ready."""
        if not self.broker.process.running:
            self.broker.start()
        self.cli("migrate").check_returncode()
        for process in (self.api, *self.workers):
            process.start()
        if self.workers:
            self.wait_ready()
        else:
            wait_until(self._accepts, "the API accepts messages", START_SECONDS, self.logs)
        return self

    def wait_ready(self, timeout: float = START_SECONDS) -> None:
        """Wait until a message sent now would be kept and stored."""
        wait_until(lambda: self._status("/readyz") == 200, "ready", timeout, self.logs)

    def _accepts(self) -> bool:
        """Whether all is well but for the workers."""
        if self._status("/healthz") != 200:
            return False
        checks = self.client.get("/readyz").json()["checks"]
        return checks.pop("worker_attached", None) is False and all(checks.values())

    def _status(self, path: str) -> int | None:
        assert self.api.running, self.api.log
        try:
            return self.client.get(path).status_code
        except httpx.TransportError:
            return None

    def close(self) -> None:
        """End every process for good; the data is thrown away anyway."""
        self.close_but_broker()
        self.broker.process.kill()

    def close_but_broker(self) -> None:
        """End API and workers for good."""
        self.client.close()
        for process in (self.api, *self.workers):
            process.kill()

    def publish(
        self, topic: str, body: Any, params: dict[str, str] | None = None, **headers: str
    ) -> httpx.Response:
        """POST `body`; `Idempotency_Key="k"` becomes the header Idempotency-Key."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        path = f"/v1/topics/{topic}/messages"
        return self.client.post(path, content=body, params=params, headers=named)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.client.get(path, **options)

    def rows(self, topic: str | None = None) -> list[Any]:
        """Return the stored messages, of one topic or all, in the order of storing."""
        return self.query(
            "SELECT * FROM messages WHERE topic = coalesce(?, topic) ORDER BY seq", topic
        )

    def wait_rows(self, count: int, topic: str | None = None, timeout: float = 30.0) -> list[Any]:
        """Wait until there are `count` rows, or more, and return them."""
        wait_until(
            lambda: self.count(topic) >= count,
            f"{count} rows",
            timeout,
            lambda: f"there are {self.count(topic)}\n{self.logs()}",
        )
        return self.rows(topic)

    def logs(self, last: int = 30) -> str:
        """Return the last lines of every process's log."""
        parts = []
        for process in self.processes:
            lines = process.log.splitlines()[-last:]
            parts += [f"--- {process.log_path.name}", *lines]
        return "\n".join(parts)


def environment(data: Path, **values: str) -> dict[str, str]:
    """Return the environment of the appliance's processes: nothing of ours leaks in."""
    passed = ("PATH", "HOME", "LANG", "TMPDIR", "USER", "LOGNAME")
    kept = {name: os.environ[name] for name in passed if name in os.environ}
    return {
        **kept,
        "XDG_STATE_HOME": str(data.with_name("state")),
        "APPLIANCE_DATA": str(data),
        "APPLIANCE_LOG_FORMAT": "json",
        **values,
    }
