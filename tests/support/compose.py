"""The files of deploy/compose, started by docker-compose as a user would start them."""

import json
import shutil
import ssl
import subprocess
import uuid
from pathlib import Path
from typing import Any

import httpx
from engine import IMAGE, START_SECONDS, docker, wait_until
from harness import free_port

FILES = Path(__file__).parents[2] / "deploy" / "compose"


class Deployment:
    """The containers of one folder of deploy/compose, under names and on ports of their own."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder / name
        shutil.copytree(FILES / name, self.folder, ignore=lambda *_: {".env", "token"})
        self.project = f"appliance-test-{uuid.uuid4().hex[:12]}"
        self.plain_port, self.port = free_port(), free_port()
        self.token = uuid.uuid4().hex
        settings = {
            "COMPOSE_PROJECT_NAME": self.project,
            "INBOX_SITE": "localhost",
            "INBOX_IMAGE": IMAGE,
            "INBOX_PROXY_IMAGE": f"{IMAGE}-proxy",
            "INBOX_HTTP_PORT": f"127.0.0.1:{self.plain_port}",
            "INBOX_HTTPS_PORT": f"127.0.0.1:{self.port}",
        }
        lines = [f"{name}={value}\n" for name, value in settings.items()]
        (self.folder / ".env").write_text("".join(lines))
        # A test is not always run by someone who may give files away: it lets everyone read it.
        (self.folder / "token").write_text(self.token)
        (self.folder / "token").chmod(0o444)
        self._http: httpx.Client | None = None

    def compose(self, *arguments: str) -> str:
        """What docker-compose prints, on both outputs."""
        done = subprocess.run(
            ["docker-compose", *arguments],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"docker-compose {' '.join(arguments)}:\n{done.stdout}"
        return done.stdout

    def container(self, service: str) -> str:
        """The id of a service's container."""
        label = "label=com.docker.compose"
        chosen = (f"{label}.project={self.project}", f"{label}.service={service}")
        return docker("ps", "-aq", "--filter", chosen[0], "--filter", chosen[1]).strip()

    def inspect(self, service: str) -> Any:
        return json.loads(docker("inspect", self.container(service)))[0]

    def kill(self, service: str) -> None:
        """End a container's first process as a crash would: the engine did not ask for it."""
        pid = str(self.inspect(service)["State"]["Pid"])
        docker(
            "run", "--rm", "--pid", "host", "--user", "0", "--entrypoint", "kill",
            IMAGE, "-9", pid,
        )  # fmt: skip

    @property
    def trusted(self) -> ssl.SSLContext:
        """Trusts nothing but the authority that this proxy made for itself."""
        place = "/data/caddy/pki/authorities/local/root.crt"
        certificate = self.folder / "root.crt"
        docker("cp", f"{self.container('proxy')}:{place}", str(certificate))
        return ssl.create_default_context(cafile=str(certificate))

    @property
    def http(self) -> httpx.Client:
        """A client of the proxy, with the administrator's token."""
        if self._http is None:
            self._http = httpx.Client(
                base_url=f"https://localhost:{self.port}",
                headers={"Authorization": f"Bearer {self.token}"},
                verify=self.trusted,
                timeout=30,
                trust_env=False,
            )
        return self._http

    def start(self) -> "Deployment":
        self.compose("up", "--detach")
        wait_until(self.ready, "the appliance is ready behind its proxy", START_SECONDS)
        return self

    def ready(self) -> bool:
        try:
            return self.http.get("/readyz").status_code == 200
        except (httpx.TransportError, AssertionError):
            return False

    def store(self, topic: str, body: str) -> None:
        """Send a message, again while it is refused or nothing answers, until it is a row."""
        key = uuid.uuid4().hex

        def stored() -> bool:
            try:
                answer = self.http.post(
                    f"/v1/topics/{topic}/messages",
                    content=body,
                    headers={"Idempotency-Key": key, "Prefer": "wait=10"},
                )
            except httpx.TransportError:
                return False
            assert answer.status_code in (201, 202, 503), answer.text
            return answer.status_code == 201

        wait_until(stored, f"{body!r} is stored", START_SECONDS)

    def remove(self) -> None:
        if self._http is not None:
            self._http.close()
        self.compose("down", "--volumes", "--timeout", "1")
