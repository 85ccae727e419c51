"""What the parts of ours do alone, and `sqlite-utils insert`: nobody asks, nobody is answered.

`python -m bench.sides.alone broker|sqlite ...` are the programs; each prints a rate per second.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance import config as configuration
from appliance.broker.link import Link
from appliance.broker.publish.frames import FrameWriter
from appliance.model.ids import IdSource
from appliance.model.timestamps import now
from appliance.model.wire import batch
from appliance.store.sqlite.writer import SqliteWriter
from bench import database
from bench.harness import BenchError, Program, python
from bench.load import Bodies, Load

#: Messages under way to the broker, and how many of them are written by one system call.
_WINDOW = 512
_TOGETHER = 32
#: Envelopes in one transaction: what the worker finds when it is busy.
_GROUP = 8


@dataclass
class Alone:
    """A program that prints a rate."""

    name: str
    what: str
    durability: str
    argv: list[str]
    count: int
    env: dict[str, str]
    programs: Sequence[Program] = ()

    def run(self) -> float:
        """Run it once; return what it did a second."""
        done = subprocess.run(
            self.argv, capture_output=True, text=True, check=False, env=self.env or None
        )
        if done.returncode:
            raise BenchError(f"{self.name} failed: {done.stderr[-1000:]}")
        time.sleep(0.5)  # what the kernel still writes back belongs to this side
        return float(done.stdout.splitlines()[-1])  # above it is what the link logs


def broker_alone(env: dict[str, str], broker: Program, seconds: float) -> Alone:
    """Return the broker that takes single messages whose frames are written beforehand."""
    return Alone(
        "the broker alone",
        f"frames written beforehand, {_WINDOW} under way; nobody consumes",
        "confirm from a quorum queue; no row",
        python("bench.sides.alone", "broker", str(seconds)),
        0,
        env,
        [broker],
    )


def sqlite_alone(folder: Path, lines: int, lines_each: int) -> Alone:
    """Return the worker's own statements on envelopes that are in memory."""
    return Alone(
        "SQLite alone",
        f"the worker's inserts from memory, {_GROUP} batches of {lines_each:,} lines a transaction",
        "commit with fsync; same schema and settings",
        python("bench.sides.alone", "sqlite", str(folder), str(lines), str(lines_each)),
        lines,
        {},
    )


class SqliteUtils:
    """`sqlite-utils insert` of the CSV that `.import` gets, with a line of names above it."""

    name = "sqlite-utils insert"
    what = "the plain command, its start included, of a CSV with ready ids"
    durability = "a commit with fsync now and then; same schema, page size, WAL"
    programs = ()

    def __init__(self, folder: Path, csv: Path, lines: int) -> None:
        self._folder = folder
        self._csv = folder / "named.csv"
        with self._csv.open("wb") as file:
            file.write(b"seq,id,topic,body,received_at,content_type,meta\n" + csv.read_bytes())
        self._rounds = 0
        self.count = lines

    def run(self) -> float:
        """Insert once into a fresh database; return lines a second."""
        self._rounds += 1
        path = database.make(self._folder / f"utils-{self._rounds}.db")
        began = time.monotonic()
        subprocess.run(
            [*python("sqlite_utils"), "insert", str(path), "messages", str(self._csv), "--csv"],
            check=True,
            capture_output=True,
        )
        rate = self.count / (time.monotonic() - began)
        rows = database.Rows(path)
        if rows.last() != self.count:
            raise BenchError(f"sqlite-utils inserted {rows.last()} of {self.count}")
        rows.close()
        for file in self._folder.glob(f"{path.name}*"):
            file.unlink()
        time.sleep(0.5)
        return rate


async def _publish(seconds: float) -> float:
    """Publish to a queue of its own, as fast as the broker confirms; return messages a second."""
    done, sent, stop_at = 0, 1, time.monotonic() + seconds
    finished = asyncio.get_running_loop().create_future()
    body = Bodies(Load(0, [])).body(0)
    headers = {"received_at": now(), "count": 1, "bytes": len(body), "ledger": "[]"}

    async def opened(link: Link) -> None:
        channel = link.channel
        queue = {"x-queue-type": "quorum"}
        await link.call(channel.queue_declare, "bench.alone", durable=True, arguments=queue)
        await link.call(channel.queue_purge, "bench.alone")
        publishing = FrameWriter(channel.channel_number, link.frame_max, "", "bench")
        item = IdSource().new()
        message = b"".join(
            publishing.frames("bench.alone", "appliance.message", item, headers, body)
        )

        def confirmed(frame) -> None:
            nonlocal done, sent
            tag = frame.method.delivery_tag
            done = tag if frame.method.multiple else done + 1
            if time.monotonic() >= stop_at:
                if not finished.done():
                    finished.set_result(None)
                return
            while sent - done <= _WINDOW - _TOGETHER:
                link.send([message * _TOGETHER])
                sent += _TOGETHER

        await link.call(channel.confirm_delivery, confirmed)
        link.send([message])

    settings = {k: v for k, v in os.environ.items() if k.startswith("APPLIANCE_")}
    link = Link(configuration.load(settings), opened, lambda _: None)
    began = time.monotonic()
    running = asyncio.create_task(link.run())
    await asyncio.wait([finished], timeout=seconds + 30)
    rate = done / (time.monotonic() - began)
    await link.call(link.channel.queue_delete, "bench.alone")
    link.stop()
    await running
    return rate


def _store(folder: Path, lines: int, lines_each: int) -> float:
    """Store into a fresh database; return lines a second."""
    ids, bodies = IdSource(), Bodies(Load(0, [], lines=lines_each))
    envelopes = [
        batch("bench", ids.prefix(), now(), bodies.body(number).split(b"\n"))
        for number in range(lines // lines_each)
    ]
    path = database.make(folder / "alone.db")
    writer = SqliteWriter(path)
    began = time.monotonic()
    for start in range(0, len(envelopes), _GROUP):
        writer.store(envelopes[start : start + _GROUP])
    rate = lines / (time.monotonic() - began)
    writer.close()
    for file in folder.glob(f"{path.name}*"):
        file.unlink()
    return rate


def main() -> None:
    """Run one of the two and print its rate."""
    if sys.argv[1] == "broker":
        print(asyncio.run(_publish(float(sys.argv[2]))))
    else:
        print(_store(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))


if __name__ == "__main__":
    main()
