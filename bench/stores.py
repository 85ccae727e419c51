"""The store alone, on SQLite and on PostgreSQL, beside a bare pipeline of the same statements.

`python -m bench.stores SIDE FOLDER URL PID KIND MESSAGES` is one turn: it stores envelopes that are
in memory, and prints the seconds that it took, and the CPU seconds, its own and those of the server
whose process is PID.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psycopg

from appliance import config as configuration
from appliance.model.ids import PREFIX_LENGTH, IdSource
from appliance.model.timestamps import now
from appliance.model.wire import Envelope, Kind, batch, single
from appliance.store import open_store
from appliance.store.base import Store
from appliance.store.postgresql.quick_rows import ADD_ONE_TOPIC, INSERT_LINES, INSERT_ONE, MOVE
from bench.harness import BenchError, cpu_seconds_of, python, tree
from bench.load import Bodies, Load
from bench.sides.postgres_program import PostgresProgram

SQLITE, POSTGRES, BARE = "store on SQLite", "store on PostgreSQL", "bare psycopg pipeline"
_SIDES = (SQLITE, POSTGRES, BARE)
#: What comes in one transaction: name -> envelopes, and lines of each (0: it is one message).
_KINDS = {
    "singles, one a transaction": (1, 0),
    "singles, 24 a transaction": (24, 0),
    "batches of 1,000, one a transaction": (1, 1000),
    "batches of 1,000, 8 a transaction": (8, 1000),
}
#: The kinds of which the bare pipeline has the same statements.
_BARE = {"singles, one a transaction", "batches of 1,000, one a transaction"}
TITLE = "The store alone: messages from memory"
HEADS = ["", "side", "messages/s", "CPU us a message", "of it the server"]


@dataclass
class StoreRound:
    """One turn of a side: a second, and microseconds of CPU a message."""

    kind: str
    side: str
    rate: float
    client: float
    server: float

    @property
    def cpu(self) -> float:
        """Microseconds of CPU of all processes."""
        return self.client + self.server


def measure(folder: Path, stack: ExitStack, rounds: int, share: float) -> list[StoreRound]:
    """Let each side have its turn in each round. Raises MissingError without PostgreSQL."""
    server = PostgresProgram(folder, stack, "postgres-alone")
    found = []
    for number in range(rounds):
        for kind, (envelopes, lines) in _KINDS.items():
            most = int(share * (200_000 if lines else 1500 * envelopes**0.5))
            messages = max(most, 2 * envelopes * max(lines, 1))
            for side in _SIDES:
                if side == BARE and kind not in _BARE:
                    continue
                name = f"stores_{len(found)}"
                with psycopg.connect(server.url, autocommit=True) as administrator:
                    administrator.execute(f"CREATE DATABASE {name}".encode())
                done = subprocess.run(
                    python("bench.stores", side, str(folder / f"{name}-{number}"),
                           server.url_of(name), str(server.program.pid), kind, str(messages)),
                    capture_output=True, text=True, check=False,
                )  # fmt: skip
                if done.returncode:
                    raise BenchError(f"{side} failed: {done.stderr[-1000:]}")
                turn = json.loads(done.stdout.splitlines()[-1])
                stored = turn["messages"]
                found.append(
                    StoreRound(
                        kind, side, stored / turn["seconds"], 1e6 * turn["own"] / stored,
                        1e6 * turn["server"] / stored if side != SQLITE else 0.0,
                    )
                )  # fmt: skip
    return found


def rows(found: Sequence[StoreRound]) -> list[list[str]]:
    """Return the table of medians."""
    shown = []
    for kind in _KINDS:
        for side in _SIDES:
            turns = [each for each in found if (each.kind, each.side) == (kind, side)]
            if turns:
                rate = statistics.median(each.rate for each in turns)
                cpu = statistics.median(each.cpu for each in turns)
                server = statistics.median(each.server for each in turns)
                shown.append([kind, side, f"{rate:,.0f}", f"{cpu:.2f}", f"{server:.2f}"])
    return shown


def shares(found: Sequence[StoreRound], side: str) -> Iterable[tuple[str, float]]:
    """Yield, of each kind, how much less CPU the other side's message took, median of rounds."""
    for kind in _KINDS:
        ours = [each.cpu for each in found if (each.kind, each.side) == (kind, POSTGRES)]
        others = [each.cpu for each in found if (each.kind, each.side) == (kind, side)]
        if ours and others:
            yield kind, statistics.median(o / p for o, p in zip(others, ours, strict=True))


def _groups(kind: str, messages: int) -> Iterator[list[Envelope]]:
    envelopes, lines = _KINDS[kind]
    ids, bodies = IdSource(), Bodies(Load(0, [], lines=lines))
    for number in range(max(1, messages // (envelopes * max(lines, 1)))):
        group = []
        for place in range(envelopes):
            body = bodies.body(number * envelopes + place)
            if lines:
                group.append(batch("bench", ids.prefix(), now(), body.split(b"\n")))
            else:
                group.append(single("bench", ids.new(), now(), body))
        yield group


class _Clock:
    """What has passed since it was made, of which the server's is read while it serves us."""

    def __init__(self, server: int) -> None:
        self._server = server
        self._begin = self._now()

    def _now(self) -> tuple[float, float, float]:
        served = sum(map(cpu_seconds_of, tree(self._server)))
        return time.perf_counter(), time.process_time(), served

    def passed(self) -> dict[str, float]:
        """Return the seconds, and the CPU seconds of this process and of the server."""
        differences = [end - begin for begin, end in zip(self._begin, self._now(), strict=True)]
        return dict(zip(("seconds", "own", "server"), differences, strict=True))


def _store(store: Store, groups: list[list[Envelope]], server: int) -> dict[str, float]:
    writer = store.open_writer()
    writer.store(groups[0])
    clock = _Clock(server)
    for group in groups[1:]:
        writer.store(group)
    passed = clock.passed()
    writer.close()
    return passed


def _pipe(url: str, groups: list[list[Envelope]], server: int) -> dict[str, float]:
    """Run the statements of what is as usual; nothing is looked at, and nothing can be refused."""
    move, one, lines, topic = (
        each.replace("%", "%%").replace("?", "%s").encode()
        for each in (MOVE, INSERT_ONE, INSERT_LINES, ADD_ONE_TOPIC)
    )
    last = 0
    with psycopg.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        connection.prepare_threshold = 0
        cursor.execute("SET synchronous_commit = 'on'")
        for number, (envelope,) in enumerate(groups):
            if number == 1:
                clock = _Clock(server)
            count, at = envelope.count, envelope.received_at
            with connection.pipeline():
                cursor.execute("BEGIN")
                cursor.execute(move, (last + count, last))
                text = envelope.body.decode()
                if envelope.kind is Kind.MESSAGE:
                    values = (last + 1, envelope.id, "bench", text, None, at, None, None)
                    cursor.execute(one, values)
                else:
                    prefix, text = envelope.id[:PREFIX_LENGTH], "\n".join(json.loads(text))
                    cursor.execute(lines, (last, prefix, -1, "bench", at, None, None, text))
                cursor.execute(topic, ("bench", count, envelope.size, at, at))
                cursor.execute("COMMIT")
            last += count
        return clock.passed()


def main() -> None:
    """Run one turn."""
    side, folder, url, server, kind, messages = sys.argv[1:]
    settings = {"APPLIANCE_DATA": folder, "APPLIANCE_MIN_FREE_BYTES": "0"}
    if side != SQLITE:
        settings["APPLIANCE_DATABASE_URL"] = url
    store = open_store(configuration.load(settings))
    store.migrate()
    groups = list(_groups(kind, int(messages)))
    passed = _pipe(url, groups, int(server)) if side == BARE else _store(store, groups, int(server))
    stored = sum(each.count for group in groups[1:] for each in group)
    print(json.dumps({"messages": stored, **passed}))


if __name__ == "__main__":
    main()
