"""A PostgreSQL server with the settings that Debian gives it, for this run alone."""

import os
import re
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path

from bench.harness import (
    BenchError,
    MissingError,
    Program,
    find,
    free_port,
    listening,
    wait_until,
)

_RELEASES = Path("/usr/lib/postgresql")


class PostgresProgram:
    """A server in a folder of its own. Raises MissingError where PostgreSQL is not installed."""

    def __init__(self, folder: Path, stack: ExitStack, name: str = "postgres") -> None:
        releases = sorted(_RELEASES.glob("*/bin/postgres"))
        if not releases:
            raise MissingError("postgres is missing: apt-get install postgresql")
        binaries = releases[-1].parent
        data, port = folder / name, free_port()
        data.mkdir(mode=0o700)
        become: list[str] = []
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            become = [find("setpriv", "util-linux"), "--reuid=postgres", "--regid=postgres",
                      "--init-groups"]  # fmt: skip
            shutil.chown(data, "postgres", "postgres")
            folder.chmod(0o711)
        made = subprocess.run(
            [*become, str(binaries / "initdb"), "--pgdata", str(data), "--username=bench",
             "--encoding=UTF8", "--locale=C.UTF-8", "--auth=trust"],
            cwd=data, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if made.returncode:
            raise BenchError(f"initdb failed: {made.stderr}")
        self.program = Program(
            name,
            [*become, str(binaries / "postgres"), "-D", str(data), "-k", str(data),
             "-c", f"port={port}", "-c", "listen_addresses=127.0.0.1"],
            folder,
        )  # fmt: skip
        stack.callback(self.program.stop)
        wait_until("PostgreSQL listens", lambda: listening(port), [self.program])
        self._address = f"postgres://bench@127.0.0.1:{port}"
        self.url = self.url_of("postgres")
        shown = subprocess.run(
            [str(binaries / "postgres"), "--version"], capture_output=True, text=True, check=True
        )
        found = re.search(r"\d+\.\d+", shown.stdout)
        self.version = f"PostgreSQL {found[0] if found else '?'}"

    def url_of(self, database: str) -> str:
        """Return the URL of a database."""
        return f"{self._address}/{database}"
