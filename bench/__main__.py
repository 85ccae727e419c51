"""Run the benchmarks: `python -m bench`, or `make bench`."""

import argparse
import contextlib
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

from appliance.store.connection import sqlite3
from bench import scenarios
from bench.harness import REPOSITORY, BenchError, file_system, fsync_ms
from bench.meter import Meter
from bench.report import Report
from bench.sides import naive, textbook
from bench.sides.ceilings import Import, find_shell, start_bare
from bench.sides.ours import Appliance

_SCENARIOS = ("singles", "singles256", "topics", "batches", "paced", "memory")
_RESULTS = REPOSITORY / "bench" / "results"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure the appliance beside what people would use instead, in one run.",
        epilog="Exit status: 0, or 1 when a row was lost, stored twice or made up, or when a "
        "program failed. A target that is missed is said, not punished: times belong to a machine.",
    )
    parser.add_argument("--quick", action="store_true", help="under a minute: does it all work?")
    parser.add_argument(
        "--only", action="append", choices=_SCENARIOS, help="only this; may be given again"
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
    print(path.read_text() if arguments.json else report.text())
    say(f"done; also in {path}")
    sys.exit(1 if report.wrong_rows else 0)


def _run(arguments: argparse.Namespace, folder: Path, say) -> Report:
    wanted = arguments.only or _SCENARIOS
    scale = scenarios.QUICK if arguments.quick else scenarios.FULL
    meter = Meter(os.cpu_count() or 1, say, arguments.repeat)
    if "batches" in wanted:
        find_shell()  # now rather than after minutes
    with ExitStack() as stack:
        say("starting the sides")
        appliance = Appliance(folder, stack)
        ours = appliance.start()
        report = Report(_machine(folder, appliance.broker_url))
        others = {
            "naive": lambda: naive.start(folder, appliance.broker_url, appliance.broker, stack),
            "textbook": lambda: textbook.start(
                folder, appliance.broker_url, appliance.broker, stack
            ),
            "bare": lambda: start_bare(folder, stack),
        }
        compared = {"singles", "singles256", "paced", "topics"} & set(wanted)
        sides = {"ours": ours} | ({n: start() for n, start in others.items()} if compared else {})
        for side in sides.values():
            report.add_side(side)
        scenarios.warm_up(meter, list(sides.values()), scale)
        add = report.measurements.extend
        if "singles" in wanted:
            add(scenarios.singles(meter, list(sides.values()), scale, 64))
        if "singles256" in wanted:
            pair = [sides["ours"], sides["naive"]]
            add(scenarios.singles(meter, pair, scale, 256))
        if "paced" in wanted:
            add(scenarios.paced(meter, [sides["ours"], sides["naive"]], scale))
        if "topics" in wanted:
            add(scenarios.many_topics(meter, [sides["ours"], sides["naive"]], scale))
        if "batches" in wanted:
            plain = Import(folder, scale.lines, scenarios.LINES)
            report.sides[".import"] = {"what": plain.what, "durability": plain.durability}
            report.machine["SQLite of the shell"] = plain.version()
            add(scenarios.batches(meter, ours, plain, scale))
        if "memory" in wanted:
            measured, noted = scenarios.memory(meter, ours, scale)
            add(measured)
            report.memory.extend(noted)
        if meter.repeated:
            report.machine["repeated"] = (
                f"{meter.repeated} rounds, because others used the machine meanwhile"
            )
    return report


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
