"""The PostgreSQL servers of deploy/compose/scale, each for itself, and their faults."""

import contextlib
import errno
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
from engine import START_SECONDS, docker
from harness import wait_until

from appliance.store.postgresql.connections import translated

SERVERS = ("postgres-1", "postgres-2")
USER = "appliance"
_DATABASE = "appliance"
#: Bytes of each server's disk; nothing but what is written to it is taken of this machine's.
_DISK_BYTES = 3 * 2**30
_HOME = "/var/lib/postgresql/data"


class Row:
    """A row whose values are found by number, or by name."""

    def __init__(self, names: Sequence[str], values: Sequence[Any]) -> None:
        self._names = names
        self._values = values

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def __getitem__(self, key: int | str) -> Any:
        return self._values[self._names.index(key) if isinstance(key, str) else key]


def _rows(cursor: Any) -> Callable[[Sequence[Any]], Row]:
    names = [column.name for column in cursor.description or ()]
    return partial(Row, names)


class ServerDisks:
    """A disk for each server, which a test can fill: ext4 in a file."""

    def __init__(self, folder: Path) -> None:
        self._devices: dict[str, str] = {}
        for server in SERVERS:
            image, place = folder / f"{server}.img", folder / f"{server}.disk"
            with image.open("wb") as file:
                file.truncate(_DISK_BYTES)
            subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
            found = subprocess.run(
                ["losetup", "--find", "--show", image], check=True, capture_output=True, text=True
            )
            self._devices[server] = device = found.stdout.strip()
            # As Docker makes the root of a volume: like the folder of the image, and empty.
            place.mkdir()
            subprocess.run(["mount", device, place], check=True)
            (place / "lost+found").rmdir()
            place.chmod(0o1777)
            subprocess.run(["umount", place], check=True)

    @property
    def volumes(self) -> str:
        """A compose file that puts the servers' volumes on them."""
        lines = [
            f"  {server}: {{driver_opts: {{type: ext4, device: {device}}}}}\n"
            for server, device in self._devices.items()
        ]
        return "".join(["volumes:\n", *lines])

    def remove(self) -> None:
        for device in self._devices.values():
            subprocess.run(["losetup", "--detach", device], check=True)


class Databases:
    """Both servers. `name` tells the container of a service, `address` where it is while it runs.

    `places` has where each server will be; `passwords` those of `appliance` and `postgres`.
    """

    def __init__(
        self,
        project: str,
        name: Callable[[str], str],
        address: Callable[[str], str],
        places: dict[str, str],
        passwords: dict[str, str],
        logs: Callable[[], str],
    ) -> None:
        self._project = project
        self._name = name
        self._address = address
        self._places = places
        self._passwords = passwords
        self._logs = logs

    def _url(self, hosts: str, user: str) -> str:
        return f"postgresql://{user}:{self._passwords[user]}@{hosts}/{_DATABASE}?connect_timeout=2"

    def query(self, sql: str, *values: Any) -> list[Row]:
        """Ask the primary, as any program may while the appliance runs. Raises psycopg.Error."""
        url = self._url(",".join(filter(None, map(self._address, SERVERS))), USER)
        with psycopg.connect(
            url, autocommit=True, target_session_attrs="primary", row_factory=_rows
        ) as link:
            return link.execute(translated(sql).encode(), values).fetchall()

    def ask(self, server: str, sql: str) -> Any:
        """Return the one value that a server answers; None where it does not answer."""
        address = self._address(server)
        with contextlib.suppress(psycopg.Error):
            if address:
                with psycopg.connect(self._url(address, "postgres"), autocommit=True) as link:
                    row = link.execute(sql.encode()).fetchone()
                    return row and row[0]
        return None

    def is_primary(self, server: str) -> bool:
        """Whether it answers, and as the primary."""
        return self.ask(server, "SELECT pg_is_in_recovery()") is False

    @property
    def primary(self) -> str:
        found = [each for each in SERVERS if self.is_primary(each)]
        assert len(found) == 1, found
        return found[0]

    @property
    def standby(self) -> str:
        primary = self.primary
        return next(each for each in SERVERS if each != primary)

    def is_whole(self) -> bool:
        """Whether there is one primary, which waits for a standby that has everything."""
        found = [each for each in SERVERS if self.is_primary(each)]
        if len(found) != 1:
            return False
        (standby,) = set(SERVERS) - set(found)
        states = "SELECT string_agg(application_name || ' ' || sync_state, ',') "
        if self.ask(found[0], f"{states} FROM pg_stat_replication") != f"{standby} sync":
            return False
        command = ("exec", self._name(standby), "test", "-e", f"{_HOME}/complete")
        done = subprocess.run(["docker", *command], capture_output=True, check=False)
        return not done.returncode

    def wait_whole(self) -> None:
        wait_until(
            self.is_whole, "the standby has all that the primary has", START_SECONDS, self._logs
        )

    def check_same(self) -> None:
        """Both servers must have the same messages."""
        digest = "SELECT count(*) || md5(string_agg(seq || id, ',' ORDER BY seq)) FROM messages"
        first, second = SERVERS
        wait_until(
            lambda: self.ask(first, digest) == self.ask(second, digest),
            "both servers have the same messages",
            30,
        )

    def promote(self, server: str, *words: str) -> str:
        """Do what the docs say when the primary is lost; what the command says."""
        return docker(
            "exec", self._name(server), "bash", "/etc/appliance/postgres.sh", "promote", *words
        )

    def said(self, server: str) -> str:
        """Return what a server's container has logged since it was made."""
        return docker("logs", self._name(server))

    @contextlib.contextmanager
    def unreachable(self, primary: str, from_server: str) -> Iterator[None]:
        """Let nothing of one server arrive at the other one: it can't ask who is the primary."""
        rule = ("INPUT", "-s", self._places[from_server], "-j", "DROP")
        pid = docker("inspect", "--format", "{{.State.Pid}}", self._name(primary)).strip()
        command = ("nsenter", f"--net=/proc/{pid}/ns/net", "iptables")
        subprocess.run([*command, "-I", *rule], check=True, capture_output=True)
        try:
            yield
        finally:
            subprocess.run([*command, "-D", *rule], check=True, capture_output=True)

    @contextlib.contextmanager
    def full_disk(self, server: str) -> Iterator[None]:
        """Take all room on the disk of a server, as another program might."""
        volume = f"{self._project}_{server}"
        place = docker("volume", "inspect", "--format", "{{.Mountpoint}}", volume).strip()
        filler = Path(place) / "filler"
        try:
            _fill(filler)
            yield
        finally:
            filler.unlink(missing_ok=True)


def _fill(path: Path) -> None:
    """Make a file of all that is free, without writing it."""
    with path.open("wb") as file:
        at, piece = 0, 2**30
        while piece >= 4096:
            try:
                os.posix_fallocate(file.fileno(), at, piece)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                piece //= 2
            else:
                at += piece
