"""A Debian host in a container: systemd is its first process, apt its way to install."""

import json
import time
import uuid
from pathlib import Path
from typing import Any

import httpx
from engine import docker, wait_until

#: What systemd needs of a container engine to start services with a sandbox of their own.
SYSTEMD = (
    *(f"--cap-add={name}" for name in (
        "SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE", "DAC_READ_SEARCH", "SYS_NICE", "IPC_LOCK",
        "AUDIT_CONTROL", "SYS_BOOT", "SYS_TTY_CONFIG",
    )),
    "--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined",
    "--cgroupns=host", "--tmpfs=/run", "--tmpfs=/tmp", "--ulimit=nofile=20000:20000",
)  # fmt: skip
#: A machine has its control groups of version 2 in the one place or the other.
GROUPS = next(
    path for path in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup")
    if Path(path, "cgroup.controllers").exists()
)  # fmt: skip
#: Seconds; an idle machine with two cores needs a tenth.
PATIENCE = 120.0

SERVICES = ("broker", "api", "worker@0", "worker@1", "janitor", "deliver", "handle@0")


class Host:
    """One Debian host; removed with all that is on it."""

    def __init__(self, image: str) -> None:
        self.name = f"appliance-host-{uuid.uuid4().hex[:12]}"
        docker(
            "run", "--detach", "--name", self.name, "--publish", "127.0.0.1::8080", *SYSTEMD,
            "--volume", f"{GROUPS}:/sys/fs/cgroup:rw", image, "/sbin/init",
        )  # fmt: skip
        self._http: httpx.Client | None = None
        states = ("running", "degraded")
        wait_until(
            lambda: self.run("systemctl", "is-system-running", check=False).strip() in states,
            "systemd has started",
            PATIENCE,
        )

    def run(self, *command: str, check: bool = True, timeout: float = 600) -> str:
        """What a command prints that root types on the host."""
        return docker("exec", self.name, *command, check=check, timeout=timeout)

    def apt(self, action: str, *packages: str) -> str:
        return self.run(
            "env", "DEBIAN_FRONTEND=noninteractive",
            "apt-get", action, "--yes", "--no-install-recommends", *packages,
        )  # fmt: skip

    def install(self, package: Path) -> str:
        docker("cp", str(package), f"{self.name}:/root/{package.name}")
        return self.apt("install", f"/root/{package.name}")

    def show(self, unit: str, name: str) -> str:
        """One property of a unit, as systemd has it."""
        return self.run("systemctl", "show", "--property", name, "--value", unit).strip()

    def unit(self, service: str) -> str:
        return f"appliance-{service}.service"

    def pid(self, service: str) -> int:
        return int(self.show(self.unit(service), "MainPID"))

    def pids(self) -> dict[str, int]:
        return {service: self.pid(service) for service in SERVICES}

    def active(self, service: str) -> bool:
        return self.show(self.unit(service), "ActiveState") == "active"

    @property
    def url(self) -> str:
        """The published port, which stays the same: a host is never restarted."""
        port = docker("port", self.name, "8080/tcp").split()[0].rpartition(":")[2]
        return f"http://127.0.0.1:{port}"

    @property
    def token(self) -> str:
        """The administrator's token."""
        return self.run("appliance", "token").strip()

    def logs(self) -> str:
        """The last lines of the journal."""
        return self.run("journalctl", "--no-pager", "-n", "80", check=False)

    @property
    def http(self) -> httpx.Client:
        """A client for the published port, with the administrator's token."""
        if self._http is None:
            headers = {"Authorization": f"Bearer {self.token}"}
            self._http = httpx.Client(base_url=self.url, headers=headers, timeout=30)
        return self._http

    def ready(self) -> bool:
        try:
            return self.http.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def wait_ready(self) -> float:
        """Wait until a message sent now would be kept; seconds it took."""
        begin = time.monotonic()
        try:
            wait_until(self.ready, "the host's appliance is ready", PATIENCE)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.logs()}") from error
        return time.monotonic() - begin

    def store(self, topic: str, body: str) -> None:
        """Publish, again while it is refused, until the row is committed."""
        headers = {"Prefer": "wait=10", "Idempotency-Key": uuid.uuid4().hex}

        def stored() -> bool:
            try:
                answer = self.http.post(
                    f"/v1/topics/{topic}/messages", content=body, headers=headers
                )
            except httpx.TransportError:
                return False
            assert answer.status_code in (201, 202, 503), answer.text
            return answer.status_code == 201

        wait_until(stored, f"{body!r} is stored", PATIENCE)

    def bodies(self, topic: str) -> list[str]:
        """The bodies of a topic's rows, as they were stored, over HTTP."""
        answer = self.http.get(f"/v1/topics/{topic}/messages", params={"format": "ndjson"})
        assert answer.status_code == 200, answer.text
        return [json.loads(line)["body"] for line in answer.text.splitlines()][::-1]

    def processes(self) -> dict[str, dict[str, Any]]:
        """The list of processes that the API shows."""
        return {p["name"]: p for p in self.http.get("/v1/status").json()["processes"]}

    def remove(self) -> None:
        if self._http is not None:
            self._http.close()
        docker("rm", "--force", "--volumes", self.name, check=False)
