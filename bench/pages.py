"""Times every page of the console, and every call that reads, on a full database.

A real API process serves a data folder that is made for it: a million messages of 10,000 topics,
100,000 dead letters, 1,000 inbox addresses and as many tokens. No broker runs, so the pages show
that it is away. The addresses come from the application's own list of routes: a new page is
measured without a line here, or the run ends with words that say which example it wants.
"""

import argparse
import contextlib
import http.client
import os
import re
import secrets
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from appliance import config as configuration
from appliance.api.app import create_app
from appliance.auth.authorizer import Authorizer
from appliance.cli.composition import api_services
from appliance.config import Config
from appliance.store import open_store
from bench import filled
from bench.addresses import Address, addresses, places
from bench.filled import Size
from bench.harness import (
    BenchError,
    Program,
    appliance,
    free_port,
    machine_cpu_seconds,
    wait_until,
)
from bench.meter import quantile
from bench.tables import table

#: Milliseconds in which a page must be made, 95 of 100 times.
LIMIT_MS: Final = 20.0
FULL: Final = Size(rows=1_000_000, topics=10_000, letters=100_000, access=1_000)
QUICK: Final = Size(rows=4_000, topics=50, letters=400, access=20)
#: Requests of each address: those that are measured, and those before.
REQUESTS: Final = 50
_WARM_UP: Final = 3
#: The clock of a process's CPU time, by its number (see clock_getcpuclockid in Linux).
_CPU_CLOCK: Final = 2

#: A hidden field of a form.
_HIDDEN: Final = re.compile(r'type="hidden" name="(\w+)" value="([^"]*)"')


@dataclass
class PageTime:
    """What one address took: milliseconds of the wall's clock and of the API's CPU."""

    address: str
    wall_p50: float
    wall_p95: float
    cpu_p50: float
    cpu_p95: float
    kib: float


@dataclass
class Pages:
    """What came of it. `others_share` is that of all CPUs which neither API nor client used."""

    size: Size
    times: list[PageTime]
    others_share: float

    @property
    def slowest(self) -> PageTime:
        """The address with the largest p95 of the wall's clock."""
        return max(self.times, key=lambda each: each.wall_p95)

    @property
    def dearest(self) -> PageTime:
        """The address with the largest p95 of CPU."""
        return max(self.times, key=lambda each: each.cpu_p95)


def measure(folder: Path, size: Size, requests: int, say: Callable[[str], None]) -> Pages:
    """Fill a database in `folder`, start an API on it, and time its pages."""
    data = folder / "pages"
    env = {
        "APPLIANCE_DATA": str(data),
        "APPLIANCE_HTTP": f"127.0.0.1:{free_port()}",
        "APPLIANCE_TOKEN": secrets.token_urlsafe(16),
        "APPLIANCE_MIN_FREE_BYTES": "0",
        "APPLIANCE_LOG_FORMAT": "json",
    }
    config = configuration.load(env)
    filled.fill(data / "appliance.db", size, say)
    api = Program("pages-api", appliance("api"), folder, env)
    try:
        with contextlib.closing(_Client(config.http.port, env["APPLIANCE_TOKEN"])) as client:
            wait_until("the API answers", client.answers, [api])
            client.sign_in()
            return _time(api, client, addresses(_rules(config), places(size)), size, requests, say)
    finally:
        api.stop()
        shutil.rmtree(data, ignore_errors=True)


def _rules(config: Config) -> list[Any]:
    """Return the routes of the API, from an application that is put together as in its process."""

    def nothing(*_: object) -> Any:
        raise AssertionError("this application is asked for nothing but its routes")

    services = api_services(
        config, open_store(config), nothing, nothing, mark=nothing,
        stopping=threading.Event(), authorizer=Authorizer("nobody"),
    )  # fmt: skip
    return list(create_app(services).url_map.iter_rules())


class _Client:
    """A browser that is signed in, and a program with a token, on one connection."""

    def __init__(self, port: int, token: str) -> None:
        self._link = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._token = token
        self._cookie = ""

    def close(self) -> None:
        self._link.close()

    def get(self, path: str) -> tuple[int, bytes]:
        """Return status and body."""
        headers = {"Authorization": f"Bearer {self._token}"}
        if path.startswith("/console"):
            headers = {"Cookie": self._cookie}
        self._link.request("GET", path, headers=headers)
        answer = self._link.getresponse()
        return answer.status, answer.read()

    def answers(self) -> bool:
        try:
            return self.get("/v1/topics")[0] == 200
        except OSError:
            self._link.close()
            return False

    def sign_in(self) -> None:
        """Sign in as a person does."""
        form = dict(_HIDDEN.findall(self.get("/console/login")[1].decode()))
        body = urlencode({**form, "token": self._token, "to": "/console/"})
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            "Sec-Fetch-Site": "same-origin",
        }
        self._link.request("POST", "/console/login", body, headers)
        answer = self._link.getresponse()
        text = answer.read()
        self._cookie = (answer.headers["Set-Cookie"] or "").partition(";")[0]
        if answer.status != 303 or not self._cookie:
            raise BenchError(f"signing in to the console: {answer.status} {text[:300]!r}")


def _time(
    api: Program,
    client: _Client,
    asked: Sequence[Address],
    size: Size,
    requests: int,
    say: Callable[[str], None],
) -> Pages:
    """Ask for each address in turn, round after round: what disturbs meets all of them."""
    say(f"asking for {len(asked)} addresses, {requests} times each")
    walls: dict[str, list[float]] = {each.text: [] for each in asked}
    cpus: dict[str, list[float]] = {each.text: [] for each in asked}
    sizes: dict[str, int] = {}
    clock = ~api.pid << 3 | _CPU_CLOCK
    began = machine = own = 0.0
    for round_ in range(-_WARM_UP, requests):
        if round_ == 0:
            began, machine = time.monotonic(), machine_cpu_seconds()
            own = time.process_time() + api.cpu_seconds()
        for each in asked:
            cpu, wall = time.clock_gettime(clock), time.perf_counter()
            status, body = client.get(each.text)
            wall = time.perf_counter() - wall
            cpu = time.clock_gettime(clock) - cpu
            if status not in each.fine:
                api.check()
                raise BenchError(f"{each.text}: {status} {body[:300]!r}\n{api.tail()}")
            if round_ >= 0:
                walls[each.text].append(1000 * wall)
                cpus[each.text].append(1000 * cpu)
                sizes[each.text] = len(body)
    own = time.process_time() + api.cpu_seconds() - own
    used = max(machine_cpu_seconds() - machine - own, 0.0)
    times = []
    for text, wall_times in walls.items():
        wall_times.sort()
        cpu_times = sorted(cpus[text])
        times.append(
            PageTime(
                text,
                *(quantile(wall_times, share) for share in (0.5, 0.95)),
                *(quantile(cpu_times, share) for share in (0.5, 0.95)),
                sizes[text] / 1024,
            )
        )
    times.sort(key=lambda each: -each.wall_p95)
    return Pages(size, times, used / (time.monotonic() - began) / (os.cpu_count() or 1))


def rows(pages: Pages) -> list[list[str]]:
    """Return the cells of the table, the slowest first."""
    return [
        [
            each.address,
            *(
                f"{value:.1f}"
                for value in (each.wall_p50, each.wall_p95, each.cpu_p50, each.cpu_p95)
            ),
            f"{each.kib:.0f}",
        ]
        for each in pages.times
    ]


def title(pages: Pages) -> str:
    """Return what the table is about."""
    return f"pages and calls that read, at {pages.size.rows:,} messages; ms"


HEADS: Final = ("address", "wall p50", "wall p95", "CPU p50", "CPU p95", "KiB")


def main() -> None:
    """Time the pages alone, and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.pages",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Exit status: 0; 1 when a page failed. A page that is slow is said, not punished.",
    )
    parser.add_argument("--quick", action="store_true", help="few rows: does it work?")
    parser.add_argument(
        "--requests", type=int, default=REQUESTS, help="of each address (default: %(default)s)"
    )
    parser.add_argument("--data", type=Path, help="where the database goes (default: a new folder)")
    arguments = parser.parse_args()
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:5.0f} s {text}", file=sys.stderr, flush=True)

    size, requests = (QUICK, 3) if arguments.quick else (FULL, arguments.requests)
    with tempfile.TemporaryDirectory(dir=arguments.data) as folder:
        try:
            pages = measure(Path(folder), size, requests, say)
        except BenchError as error:
            sys.exit(f"bench.pages: {error}")
    print("\n".join([title(pages), "", *table(HEADS, rows(pages)), ""]))
    late = [each for each in pages.times if each.wall_p95 >= LIMIT_MS]
    print(f"p95 of {LIMIT_MS:g} ms or more: {len(late)} of {len(pages.times)}")
    print(f"others used {100 * pages.others_share:.0f} % of the machine")


if __name__ == "__main__":
    main()
