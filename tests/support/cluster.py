"""deploy/compose/scale as a user would start it, and the faults of a cluster.

The Docker engine runs on this machine, so what is in a container's network namespace, and the
disks of the databases, are here too. As root.
"""

import contextlib
import json
import os
import re
import secrets
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pika
from cluster_databases import SERVERS, Databases, Row, ServerDisks
from compose import FILES
from engine import IMAGE, START_SECONDS, docker
from harness import Folder, free_port, wait_until

from appliance.drill.check import StoredRow

BROKERS = ("broker-1", "broker-2", "broker-3")
APIS = ("api-1", "api-2")
WORKERS = ("worker-1", "worker-2")
CLIENTS = (*APIS, *WORKERS)
OTHERS = ("janitor", "deliver", "proxy")
SERVICES = (*BROKERS, *SERVERS, *CLIENTS, *OTHERS)
USER = "appliance"
_AMQP = 5672
#: Name, part and rights of a queue's member, as RabbitMQ writes them.
_MEMBER = re.compile(
    r'"Node Name">>,\s*.rabbit@(broker-\d).*?"Raft State">>,\s*(\w+)'
    r'.*?"Membership">>,\s*(\w+)',
    re.DOTALL,
)
#: What the appliance reads and nobody on this machine may: Docker mounts files as they are.
_READABLE = 0o444


class Cluster(Folder):
    """The containers of deploy/compose/scale, under names, ports and a network of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "scale"
        ignored = (FILES / "scale" / ".gitignore").read_text().split()
        unwanted = shutil.ignore_patterns(*(each.strip("/") for each in ignored))
        shutil.copytree(FILES / "scale", self.folder, ignore=unwanted)
        self.data = self.folder
        self.project = f"appliance-test-{secrets.token_hex(6)}"
        self.port, self.token = free_port(), secrets.token_hex(16)
        self.password = secrets.token_hex(16)
        # 172.31 is nobody's default; tests on one machine rarely meet in one of 200 networks.
        network = f"172.31.{secrets.randbelow(200)}"
        settings = {
            "COMPOSE_PROJECT_NAME": self.project,
            "COMPOSE_FILE": "compose.yaml:disks.yaml",
            "INBOX_IMAGE": IMAGE,
            "INBOX_BROKER_IMAGE": f"{IMAGE}-scale-broker",
            "INBOX_POSTGRES_IMAGE": f"{IMAGE}-scale-postgres",
            "INBOX_PROXY_IMAGE": f"{IMAGE}-scale-proxy",
            "INBOX_HTTP_PORT": f"127.0.0.1:{free_port()}",
            "INBOX_HTTPS_PORT": f"127.0.0.1:{self.port}",
            "INBOX_SUBNET": f"{network}.0/26",
            "INBOX_OTHERS": f"{network}.32/27",
            "INBOX_API_1": f"{network}.11",
            "INBOX_API_2": f"{network}.12",
            "INBOX_POSTGRES_1": f"{network}.21",
            "INBOX_POSTGRES_2": f"{network}.22",
        }
        passwords = {USER: secrets.token_hex(16), "postgres": secrets.token_hex(16)}
        database = f"postgresql://{USER}:{passwords[USER]}@{','.join(SERVERS)}/appliance"
        self._write(".env", "".join(f"{name}={value}\n" for name, value in settings.items()))
        self._write("token", self.token)
        self._write("cookie", secrets.token_hex(16))
        self._write("broker-url", ",".join(f"amqp://{self._login}@{name}" for name in BROKERS))
        self._write("database-url", database)
        self._write("database-read-url", f"{database}?target_session_attrs=standby")
        self._write("postgres-password", passwords["postgres"])
        # Of no container that runs; without them docker-compose 1.29 complains each time.
        self._write("prometheus-token", "")
        self._write("grafana-password", "")
        self._make_certificate()
        self.url = f"https://localhost:{self.port}"
        self.env: dict[str, str] = {}
        places = {each: settings[f"INBOX_{each.upper().replace('-', '_')}"] for each in SERVERS}
        self.databases = Databases(
            self.project, self.name, self.address, places, passwords, self.logs
        )
        self._disks: ServerDisks | None = None

    @property
    def _login(self) -> str:
        return f"{USER}:{self.password}"

    def _write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)
        (self.folder / name).chmod(_READABLE)

    def _make_certificate(self) -> None:
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-keyout", "key.pem", "-out", "certificate.pem", "-days", "2",
             "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
            cwd=self.folder, check=True, capture_output=True,
        )  # fmt: skip
        (self.folder / "key.pem").chmod(_READABLE)

    def passwords_in(self, name: str) -> list[str]:
        """Return the passwords in a file of URLs."""
        return re.findall(r"//[^:]*:([^@]*)@", (self.folder / name).read_text())

    @property
    def certificate(self) -> Path:
        return self.folder / "certificate.pem"

    # --- containers

    def compose(self, *arguments: str) -> str:
        done = subprocess.run(
            ["docker-compose", *arguments], cwd=self.folder, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=180, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"docker-compose {' '.join(arguments)}:\n{done.stdout}"
        return done.stdout

    def name(self, service: str) -> str:
        return f"{self.project}_{service}_1"

    def inspect(self, service: str) -> Any:
        return json.loads(docker("inspect", self.name(service)))[0]

    def address(self, service: str) -> str:
        """Return a container's address; empty where it does not run."""
        networks = self.inspect(service)["NetworkSettings"]["Networks"]
        return str(networks[f"{self.project}_inside"]["IPAddress"])

    def start(self) -> "Cluster":
        self._disks = ServerDisks(self.folder)
        self._write("disks.yaml", self._disks.volumes)
        self.compose("up", "--detach")
        self.wait_ready()
        self.wait_whole()
        return self

    def remove(self) -> None:
        self.compose("down", "--volumes", "--timeout", "1")
        if self._disks is not None:
            self._disks.remove()

    # --- what is stored

    def query(self, sql: str, *values: Any) -> list[Row]:
        """Ask the database, as any program may while the appliance runs."""
        return self.databases.query(sql, *values)

    def stored_rows(self, topics: Iterable[str]) -> list[StoredRow]:
        """Return the rows of these topics, in the order of storing."""
        found = self.query(
            "SELECT topic, id, body, body_bytes FROM messages WHERE topic = ANY(?) ORDER BY seq",
            list(topics),
        )
        return [StoredRow(row[0], row[1], row[2] if row[3] is None else row[3]) for row in found]

    def check_sound(self) -> None:
        """Hold the copies of the database to one another."""
        self.databases.check_same()

    def ready(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            trusted = ssl.create_default_context(cafile=str(self.certificate))
            answer = httpx.get(f"{self.url}/readyz", verify=trusted, timeout=10, trust_env=False)
            return answer.status_code == 200
        return False

    def wait_ready(self) -> None:
        wait_until(self.ready, "ready", START_SECONDS, self.logs)

    def logs(self, last: int = 15) -> str:
        """Return the last lines of every container's log."""
        return self.compose("logs", "--no-color", f"--tail={last}")

    def cli(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess:
        """Run an `appliance` command on a host, to its end."""
        timeout = options.get("timeout", 120)
        command = ["docker", "exec", self.name("api-1"), "appliance", *arguments]
        return subprocess.run(command, capture_output=True, check=False, timeout=timeout)

    # --- the brokers, each for itself

    def url_of(self, broker: str) -> str:
        return f"amqp://{self._login}@{self.address(broker)}:{_AMQP}/"

    @property
    def broker_url(self) -> str:
        return next(self.url_of(each) for each in BROKERS if self.listens(each))

    def listens(self, broker: str) -> bool:
        """Whether a broker's container runs and takes connections."""
        if not self.inspect(broker)["State"]["Running"]:
            return False
        try:
            with socket.create_connection((self.address(broker), _AMQP), 1):
                return True
        except OSError:
            return False

    def evaluate(self, broker: str, erlang: str) -> str:
        """Evaluate an expression at a broker; empty where it does not run."""
        said = docker(
            "exec", self.name(broker), "rabbitmqctl", "--silent", "eval", erlang, check=False
        )
        return said.strip()

    def view(self, broker: str) -> tuple[list[str], str]:
        """Return which brokers one believes to run, and from which it believes to be split."""
        said = self.evaluate(
            broker, "{lists:sort(rabbit_nodes:list_running()), rabbit_node_monitor:partitions()}."
        )
        return sorted(set(re.findall("broker-[0-9]", said))), said.rpartition("],")[2].strip("}\n ")

    def members(self) -> dict[str, str]:
        """Return broker -> its part in the queue: leader, follower or else."""
        for broker in filter(self.listens, BROKERS):
            said = self.evaluate(
                broker, 'rabbit_quorum_queue:status(<<"/">>, <<"appliance.store">>).'
            )
            parts = _MEMBER.findall(said)
            if parts:
                return {name: state for name, state, member in parts if member == "voter"}
        return {}

    def leader(self) -> str:
        found = [name for name, state in self.members().items() if state == "leader"]
        assert len(found) == 1, found
        return found[0]

    def lead(self, broker: str) -> None:
        """Let a broker lead the queue of messages."""
        self.evaluate(
            broker,
            '{ok, Q} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"appliance.store">>'
            f")), rabbit_quorum_queue:transfer_leadership(Q, 'rabbit@{broker}').",
        )
        wait_until(lambda: self.leader() == broker, f"{broker} leads", 30)

    def wait_whole(self) -> None:
        """Wait until all brokers keep the queue, and both servers the messages."""
        self.wait_brokers()
        self.databases.wait_whole()

    def wait_brokers(self) -> None:
        """Wait until every broker runs, and keeps the queue as a leader or a follower."""
        parts = ["follower", "follower", "leader"]
        wait_until(
            lambda: all(map(self.listens, BROKERS)) and sorted(self.members().values()) == parts,
            "all three brokers keep the queue",
            START_SECONDS,
            lambda: f"{self.members()}\n{self.logs()}",
        )

    def check_metadata(self) -> None:
        """Each broker must see all three, no split, and at once what is made at another one."""
        views = {each: self.view(each) for each in BROKERS}
        assert views == {each: (list(BROKERS), "[]") for each in BROKERS}, views
        for each in BROKERS:
            queue = f"seen.{secrets.token_hex(4)}"
            with pika.BlockingConnection(pika.URLParameters(self.url_of(each))) as link:
                link.channel().queue_declare(queue, durable=True)
                for other in BROKERS:
                    with pika.BlockingConnection(pika.URLParameters(self.url_of(other))) as there:
                        channel = there.channel()
                        wait_until(
                            lambda c=channel, q=queue: c.queue_declare(q, passive=True),
                            f"{other} sees what was made at {each}", 5,
                        )  # fmt: skip
                link.channel().queue_delete(queue)

    def wait_serves(self, api: str) -> None:
        """Wait until one API takes messages, whatever the other one does."""

        def serves() -> bool:
            with contextlib.suppress(httpx.TransportError):
                answer = httpx.get(f"http://{self.address(api)}:8080/readyz", trust_env=False)
                return answer.status_code == 200
            return False

        wait_until(serves, f"{api} serves", START_SECONDS, self.logs)

    # --- faults

    def kill(self, *services: str) -> None:
        """kill -9 of containers, at once; nothing starts them again."""
        docker("kill", "--signal", "KILL", *map(self.name, services))

    def bring_back(self, *services: str) -> None:
        docker("start", *map(self.name, services))

    def stop(self, service: str) -> None:
        """Ask a container to end."""
        docker("stop", "--time", "60", self.name(service))

    def restart(self, service: str) -> None:
        """Restart a container as one does for an upgrade: it is asked to end."""
        docker("restart", "--time", "60", self.name(service))

    def wait_back(self, service: str) -> None:
        """Wait until a container does its part again, as one must before the next restart."""
        if service in BROKERS:
            self.wait_brokers()
        elif service in SERVERS:
            self.databases.wait_whole()
        elif service in APIS:
            self.wait_serves(service)
        elif service in WORKERS:
            wait_until(lambda: self.connected(service), f"{service} is connected", 60, self.logs)
        elif service == "proxy":
            self.wait_ready()

    def _inside(self, service: str, *command: str, pid: int = 0) -> str:
        """Run a command of this machine's in a container's network; `pid` if that is known."""
        pid = pid or self.inspect(service)["State"]["Pid"]
        return subprocess.run(
            ["nsenter", f"--net=/proc/{pid}/ns/net", *command],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip

    @contextlib.contextmanager
    def cut(self, service: str, *, from_brokers_only: bool = False) -> Iterator[None]:
        """Lose all that a container sends and gets: no connection ends, and nothing is refused.

        Or all between a broker and the others; clients still reach it.
        """
        rules: list[tuple[str, ...]] = [("INPUT", "!", "-i", "lo"), ("OUTPUT", "!", "-o", "lo")]
        if from_brokers_only:
            others = [self.address(each) for each in BROKERS if each != service]
            rules = [("INPUT", "-s", each) for each in others]
            rules += [("OUTPUT", "-d", each) for each in others]
        for rule in rules:
            self._inside(service, "iptables", "-I", *rule, "-j", "DROP")
        try:
            yield
        finally:
            for rule in rules:
                self._inside(service, "iptables", "-D", *rule, "-j", "DROP")

    def connected(self, client: str) -> set[str]:
        """Return the brokers that a client has connections to."""
        addresses = {self.address(each): each for each in BROKERS if self.runs(each)}
        return {addresses[peer] for peer in self._peers(client) if peer in addresses}

    def _peers(self, client: str, pid: int = 0) -> list[str]:
        command = ("ss", "-Htn", "state", "established", f"dport = :{_AMQP}")
        lines = self._inside(client, *command, pid=pid)
        return re.findall(rf"\[?(?:::ffff:)?([\d.]+)\]?:{_AMQP}", lines)

    def seconds_until_left(self, clients: list[str], broker: str, since: float) -> float:
        """Return after how long none of these clients has a connection to the broker."""
        address = self.address(broker)
        pids = {each: self.inspect(each)["State"]["Pid"] for each in clients}
        wait_until(
            lambda: all(address not in self._peers(*each) for each in pids.items()),
            f"{clients} have left {broker}",
            20,
            lambda: str([self.connected(each) for each in clients]),
        )
        return time.monotonic() - since

    def runs(self, service: str) -> bool:
        return bool(self.inspect(service)["State"]["Running"])


def needs_root() -> None:
    assert os.geteuid() == 0, "tests of the cluster cut networks, which is root's to do"
