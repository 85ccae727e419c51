"""One Go program without a broker (source in `go/`): into SQLite in groups, or into PostgreSQL.

It is the honest ceiling of a design that answers once the row itself is on disk: our schema, ids
and token, one compiled program. The front before PostgreSQL is the same program.
"""

import os
import secrets
import subprocess
from contextlib import ExitStack
from pathlib import Path

from bench import database
from bench.harness import (
    MissingError,
    Program,
    find,
    free_port,
    listening,
    wait_until,
)
from bench.sides.base import Side
from bench.sides.postgres_program import PostgresProgram

GO = "one Go program"
POSTGRES = "PostgreSQL"
_SOURCE = Path(__file__).with_name("go")
#: Where Debian keeps PostgreSQL's own programs, a folder for each release.


def start_sqlite(folder: Path, stack: ExitStack) -> Side:
    """Start the program on a file of its own. Raises MissingError where there is no Go."""
    path = database.make(folder / "go.db")
    program, port, headers = _start(folder, stack, "sqlite", str(path))
    return Side(
        name=GO,
        what="net/http; messages that wait at once share a transaction of SQLite's",
        durability="commit with fsync before the 201; our schema, ids and token",
        port=port,
        path="/topics/{topic}",
        headers=headers,
        database=path,
        programs={"api": [program]},
    )


def start_postgres(folder: Path, stack: ExitStack) -> Side:
    """Start PostgreSQL and the program. Raises MissingError where one of them is not installed."""
    server = PostgresProgram(folder, stack)
    url = f"{server.url}?pool_max_conns=64"
    front, front_port, headers = _start(folder, stack, "postgres", url)
    return Side(
        name=POSTGRES,
        what="a Go front on net/http and pgx, up to 64 connections; a row and commit each",
        durability=f"commit with fsync before the 201 ({server.version}); "
        "our columns, without the counters of topics",
        port=front_port,
        path="/topics/{topic}",
        headers=headers,
        programs={"api": [front], "broker": [server.program]},
    )


def _start(
    folder: Path, stack: ExitStack, engine: str, place: str
) -> tuple[Program, int, dict[str, str]]:
    """Start the program before an engine; return it, its port, and the headers it asks for."""
    port, token = free_port(), secrets.token_urlsafe(16)
    argv = [str(_build(folder)), str(port), engine, place]
    program = Program(f"go-{engine}", argv, folder, {"BENCH_TOKEN": token})
    stack.callback(program.stop)
    wait_until("the Go program listens", lambda: listening(port), [program])
    return program, port, {"Authorization": f"Bearer {token}"}


def _build(folder: Path) -> Path:
    """Build the program, once; the first time on a machine SQLite is compiled too: a minute."""
    target = folder / "go-peer"
    if not target.exists():
        go, compiler = find("go", "golang"), find("gcc", "gcc libc6-dev")
        built = subprocess.run(
            [go, "build", "-mod=readonly", "-o", str(target), "."],
            cwd=_SOURCE, env={**os.environ, "CGO_ENABLED": "1", "CC": compiler},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if built.returncode:
            raise MissingError(f"the Go program can't be built: {built.stderr.strip()[-500:]}")
    return target
