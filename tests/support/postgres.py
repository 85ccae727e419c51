"""A real PostgreSQL server of the tests' own, and a database for each test.

Debian's package has the programs; they do not run as root, so the server is of the user `postgres`
then. It listens on a Unix socket only.
"""

import os
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path

import psycopg

from appliance.store.postgresql.migrations import migrate

_TEMPLATE = "appliance_template"
_USER = "postgres"


def programs() -> Path:
    """Return the folder of the newest PostgreSQL's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: p.parts[-3])
    assert found, "PostgreSQL is not installed: on Debian, apt-get install postgresql"
    return found[-1].parent


class PostgresServer:
    """A server in a folder of its own; `synced` as a user's is, else quicker and for tests only."""

    def __init__(self, *, synced: bool = False) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        if os.geteuid() == 0:
            shutil.chown(self.folder, _USER)
        self._make()
        options = f"-k {self.folder} -c listen_addresses= -c max_connections=200"
        if not synced:
            options += " -c fsync=off -c full_page_writes=off"
        self._options = options
        self.start()

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    def _make(self) -> None:
        self._run("initdb", "-D", self._data, "-U", _USER, "-E", "UTF8", "--no-sync",
                  "--locale", "C.UTF-8", "-A", "trust")  # fmt: skip

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        self._run("pg_ctl", "-D", self._data, "-o", self._options, "-w", "-l",
                  str(self.folder / "log"), "start")  # fmt: skip

    def stop(self, mode: str = "fast") -> None:
        """Stop the server: `fast`, or `immediate`, as by a crash."""
        self._run("pg_ctl", "-D", self._data, "-w", "-m", mode, "stop")

    def remove(self) -> None:
        """End the server, and remove its files."""
        self.stop("immediate")
        shutil.rmtree(self.folder)

    def url(self, database: str) -> str:
        """Return the URL of a database."""
        return f"postgresql:///{database}?host={self.folder}&user={_USER}"

    def new_database(self, *, migrated: bool = False) -> str:
        """Make a database; return its URL."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            if (
                migrated
                and not connection.execute(
                    "SELECT 1 FROM pg_database WHERE datname = %s", (_TEMPLATE,)
                ).fetchone()
            ):
                connection.execute(f"CREATE DATABASE {_TEMPLATE}".encode())
                migrate(self.url(_TEMPLATE))
            source = f" TEMPLATE {_TEMPLATE}" if migrated else ""
            connection.execute(f"CREATE DATABASE {name}{source}".encode())
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Remove a database, whoever is connected to it."""
        name = url.partition("///")[2].partition("?")[0]
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(programs() / program), *arguments]
        if os.geteuid() == 0:
            command = ["runuser", "-u", _USER, "--", *command]
        done = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False)
        assert done.returncode == 0, done.stdout + done.stderr
