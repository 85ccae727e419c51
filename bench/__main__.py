"""Run the benchmarks: `python -m bench`, or `make bench`."""

import argparse
import contextlib
import dataclasses
import datetime as dt
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import pika

from appliance.store.sqlite.database import sqlite3
from bench import beside, delivering, pages, scenarios, stores
from bench.harness import REPOSITORY, BenchError, MissingError, file_system, find, fsync_ms
from bench.large import large
from bench.meter import Measurement, Meter
from bench.plot import svg
from bench.report import Report
from bench.scenarios import BATCHES, singles_name
from bench.sides import (
    go_peer,
    huey_queue,
    naive,
    nats_jetstream,
    redis_stream,
    textbook,
    webdis_stream,
)
from bench.sides.alone import SqliteUtils, broker_alone, sqlite_alone
from bench.sides.base import Side
from bench.sides.ceilings import Import, start_bare
from bench.sides.ours import Appliance
from bench.sides.postgres_program import PostgresProgram

_SCENARIOS = ("singles", "singles256", "topics", "waits", "batches", "paced", "memory")
#: Those that would take the run beyond ten minutes: only with --full, and, with little in them,
#: with --quick.
_ONLY_FULL = ("heads", "small", "large", "beside", "deliveries", "pages", "scale")
_RESULTS = REPOSITORY / "bench" / "results"
#: Where `--docs` puts the figures: between these lines.
_DOCS = REPOSITORY / "docs" / "performance.md"
_BEGIN, _END = "<!-- figures: begin -->", "<!-- figures: end -->"
#: Those of all sides that only single messages at 64 connections are put to, and those of them
#: that only `--full` starts.
_OTHERS = {"textbook", "huey", "redis", "webdis", "nats", "postgres", "bare"}
_ONLY_FULL_SIDES = _OTHERS - {"bare"}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure the appliance beside what people would use instead, in one run.",
        epilog="Exit status: 0, or 1 when a row was lost, stored twice or made up, or when a "
        "program failed. A target that is missed is said, not punished: times belong to a machine.",
    )
    parser.add_argument("--quick", action="store_true", help="under a minute: does it all work?")
    parser.add_argument(
        "--only",
        action="append",
        choices=[*_SCENARIOS, *_ONLY_FULL],
        help="only this; may be given again",
    )  # fmt: skip
    parser.add_argument(
        "--full",
        action="store_true",
        help="also all other designs that are installed, heads that differ, small batches, ten "
        "million rows, intake beside indexer and streams, deliveries, and every page of the "
        "console on a full database; half an hour",
    )
    parser.add_argument(
        "--docs", action="store_true", help="put the figures into docs/performance.md, with a plot"
    )
    parser.add_argument("--json", action="store_true", help="print the JSON instead of the table")
    parser.add_argument(
        "--data", type=Path, default=_RESULTS,
        help="where the databases and the broker's data go while it runs (default: %(default)s); "
        "the durability measured is that of this disk",
    )  # fmt: skip
    parser.add_argument(
        "--repeat", type=int, default=0, metavar="N",
        help="repeat a round up to N times while others use much of the machine; then it takes "
        "longer than ten minutes",
    )  # fmt: skip
    parser.add_argument("--keep", action="store_true", help="keep data and logs of this run")
    return parser.parse_args()


def main() -> None:
    """Run what was asked for and print the report."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:5.0f} s {text}", file=sys.stderr, flush=True)

    arguments.data.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="data-", dir=arguments.data))
    try:
        report = _run(arguments, folder, say)
    except BenchError as error:
        sys.exit(f"bench: {error}")
    finally:
        if arguments.keep:
            say(f"data and logs are in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    stamp = dt.datetime.now(dt.UTC).strftime("%Y%m%dT%H%M%SZ")
    path = report.write(_RESULTS, stamp)
    plot = svg(report.measurements, [singles_name(64), singles_name(256), BATCHES])
    path.with_suffix(".svg").write_text(plot)
    if arguments.docs:
        _into_docs(report, plot)
    print(path.read_text() if arguments.json else report.text())
    say(f"done; also in {path}")
    sys.exit(1 if report.wrong_rows else 0)


def _into_docs(report: Report, plot: str) -> None:
    before, _, rest = _DOCS.read_text().partition(_BEGIN)
    _, _, after = rest.partition(_END)
    picture = _DOCS.with_suffix(".svg")
    picture.write_text(plot)
    shown = f"![What each side stores a second]({picture.name})\n\n{report.markdown().strip()}"
    _DOCS.write_text(f"{before}{_BEGIN}\n\n{shown}\n\n{_END}{after}")


def _run(arguments: argparse.Namespace, folder: Path, say) -> Report:
    wanted = set(arguments.only or _SCENARIOS) | (set(_ONLY_FULL) if arguments.full else set())
    if arguments.quick and not arguments.only:
        wanted |= set(_ONLY_FULL) - {"large"}
    scale = scenarios.QUICK if arguments.quick else scenarios.FULL
    meter = Meter(os.cpu_count() or 1, say, arguments.repeat)
    if "batches" in wanted:
        find("sqlite3", "sqlite3")  # now rather than after minutes
    with ExitStack() as stack:
        say("starting the sides")
        appliance = Appliance(folder, stack)
        ours = appliance.start()
        report = Report(_machine(folder, appliance.broker_url))
        sides = {"ours": ours}
        if wanted & {"singles", "singles256", "paced", "topics"}:
            left_out = set() if "singles" in wanted else _OTHERS
            left_out |= set() if arguments.full or arguments.quick else _ONLY_FULL_SIDES
            sides |= _start_others(folder, appliance, stack, report, left_out)
        for side in sides.values():
            report.add_side(side)
        scenarios.warm_up(meter, list(sides.values()), scale)
        add, pair = report.measurements.extend, [sides.get("ours"), sides.get("naive")]
        if "singles" in wanted:
            part = broker_alone({**os.environ, **appliance.env}, appliance.broker, scale.seconds)
            report.add_side(part)
            add(scenarios.singles(meter, list(sides.values()), scale, 64, [part]))
        for name in _OTHERS & set(sides):
            sides[name].stop()
        if "singles256" in wanted:
            add(scenarios.singles(meter, pair, scale, 256))
        if "paced" in wanted:
            rows = [*pair, *filter(None, [sides.get("go")])]
            add(scenarios.paced(meter, [*rows, scenarios.waiting(ours)], scale))
        if "topics" in wanted:
            add(scenarios.many_topics(meter, pair, scale))
        if "beside" in wanted:
            short = dataclasses.replace(scale, seconds=scale.warm_up) if arguments.quick else scale
            report.beside = beside.measure(meter, ours, appliance, short, is_quick=arguments.quick)
        if "deliveries" in wanted:
            report.deliveries = delivering.measure(meter, ours, appliance, scale)
        if "heads" in wanted:
            add(scenarios.heads(meter, ours, scale))
        if "waits" in wanted:
            add(scenarios.waits(meter, ours, scale))
        if "batches" in wanted:
            add(_batches(meter, ours, folder, scale, report))
        if "small" in wanted:
            add(scenarios.small_batches(meter, ours, scale))
        if "memory" in wanted:
            measured, noted = scenarios.memory(meter, ours, scale)
            add(measured)
            report.memory.extend(noted)
        if "large" in wanted:
            measured, report.large = large(meter, ours, scale)
            add(measured)
        if "scale" in wanted:
            try:
                add(_on_engines(meter, ours, folder, stack, scale, report))
                share = 0.2 if arguments.quick else 1.0
                report.stores = stores.measure(folder, stack, scale.rounds, share)
            except MissingError as error:
                report.left_out.append(f"the store on PostgreSQL: {error}")
        if "pages" in wanted:
            size, requests = (pages.QUICK, 3) if arguments.quick else (pages.FULL, pages.REQUESTS)
            report.pages = pages.measure(folder, size, requests, say)
        if meter.repeated:
            report.machine["repeated"] = (
                f"{meter.repeated} rounds, because others used the machine meanwhile"
            )
    return report


def _start_others(
    folder: Path, appliance: Appliance, stack: ExitStack, report: Report, left_out: set[str]
) -> dict[str, Side]:
    """Start what is compared but for `left_out`.

    A side that this machine lacks a part for is left out too, and the report says so.
    """
    broker = (folder, appliance.broker_url, appliance.broker, stack)
    starts = {
        "naive": lambda: naive.start(*broker),
        "go": lambda: go_peer.start_sqlite(folder, stack),
        "textbook": lambda: textbook.start(*broker),
        "huey": lambda: huey_queue.start(folder, stack),
        "redis": lambda: redis_stream.start(folder, stack),
        "webdis": lambda: webdis_stream.start(folder, stack),
        "nats": lambda: nats_jetstream.start(folder, stack),
        "postgres": lambda: go_peer.start_postgres(folder, stack),
        "bare": lambda: start_bare(folder, stack),
    }
    sides = {}
    for name, start in starts.items():
        if name not in left_out:
            try:
                sides[name] = start()
            except MissingError as error:
                report.left_out.append(f"{name}: {error}")
    return sides


def _batches(meter: Meter, ours: Side, folder: Path, scale, report: Report) -> list[Measurement]:
    lines, each = scale.lines, scenarios.LINES
    plain = Import(folder, lines, each)
    report.machine["SQLite of the shell"] = plain.version()
    parts = [sqlite_alone(folder, lines, each), plain, SqliteUtils(folder, plain.csv, lines)]
    for part in parts:
        report.add_side(part)
    return scenarios.batches(meter, ours, parts, scale)


def _on_engines(
    meter: Meter, ours: Side, folder: Path, stack: ExitStack, scale: scenarios.Scale, report: Report
) -> list[Measurement]:
    """Raise MissingError where PostgreSQL is not installed."""
    server = PostgresProgram(folder, stack, "postgres-store")
    place = folder / "on-postgres"
    place.mkdir()
    other = Appliance(place, stack, server).start()
    report.add_side(other)
    scenarios.warm_up(meter, [other], scale)
    found = scenarios.on_engines(meter, [ours, other], scale)
    other.stop()
    return found


def _machine(folder: Path, broker_url: str) -> dict[str, str]:
    connection = pika.BlockingConnection(pika.URLParameters(broker_url))
    # pika keeps what the broker says of itself to itself.
    broker = connection._impl.server_properties["version"]  # noqa: SLF001
    connection.close()
    kind = file_system(folder)
    median, p99 = fsync_ms(folder)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    model = "unknown"
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), "")
    return {
        "CPU": f"{os.cpu_count()} x {model}, {memory:.0f} GiB, shared with the load generator",
        "disk": f"{kind}; 4 KiB append and fsync {median:.2f} ms median, {p99:.2f} ms p99"
        + (" (NOT A DISK: durability means nothing here)" if kind == "tmpfs" else ""),
        "versions": f"Python {platform.python_version()}, RabbitMQ {broker}, "
        f"SQLite {sqlite3.sqlite_version}, Linux {platform.release()}",
        "load generator": "bench.load: asyncio on uvloop, one process, HTTP/1.1 keep-alive, no "
        "pipelining; bodies of 200 bytes; its share of all CPUs is in the tables",
    }


if __name__ == "__main__":
    main()
