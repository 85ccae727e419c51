"""What the parts can do alone: bare uvicorn answering 202, and the `sqlite3` shell's `.import`.

`python -m bench.sides.ceilings PORT` is the bare server.
"""

import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from appliance.model.ids import IdSource, ids_from
from appliance.model.timestamps import now
from bench import database
from bench.harness import BenchError, Program, find, free_port, listening, python, wait_until
from bench.load import Bodies, Load
from bench.sides.base import Side
from bench.sides.front import serve


def start_bare(folder: Path, stack: ExitStack) -> Side:
    """Start a server that reads the body and answers 202, and does nothing else."""
    port = free_port()
    program = Program("bare", python("bench.sides.ceilings", str(port)), folder)
    stack.callback(program.stop)
    wait_until("the bare server listens", lambda: listening(port), [program])
    return Side(
        name="bare uvicorn",
        what="reads the body, answers 202, keeps nothing",
        durability="none: nothing is kept",
        port=port,
        path="/topics/{topic}",
        programs={"api": [program]},
    )


class Import:
    """The same lines as a CSV file with all columns, ids made beforehand, for `.import`."""

    name = ".import"
    what = "sqlite3 shell, .import of a CSV with ready ids, one transaction, default checkpointing"
    durability = "one fsync at the end of everything; same schema, page size, WAL, synchronous=FULL"
    programs = ()

    def __init__(self, folder: Path, lines: int, lines_each: int) -> None:
        self._shell = find("sqlite3", "sqlite3")
        self._folder = folder
        self._rounds = 0
        self.count = lines
        self.csv = folder / "lines.csv"
        bodies, ids, received_at = Bodies(Load(0, [], lines=lines_each)), IdSource(), now()
        with self.csv.open("w") as file:
            seq = 0
            for number in range(lines // lines_each):
                batch = bodies.body(number).decode().split("\n")
                names = ids_from(ids.prefix() + "00000000", len(batch))
                for name, line in zip(names, batch, strict=True):
                    seq += 1
                    file.write(f"{seq},{name},bench,{line},{received_at},,\n")

    def version(self) -> str:
        """Version of SQLite in the shell."""
        command = [self._shell, "--version"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[0]

    def run(self) -> float:
        """Import once into a fresh database; return lines a second until the commit.

        The shell's start and its checkpoint on closing are left out, which favours the shell; the
        automatic checkpoint that its one commit does stays in, since that is the plain shell.
        """
        self._rounds += 1
        path = database.make(self._folder / f"import-{self._rounds}.db")
        script = (
            "PRAGMA synchronous = FULL;\nPRAGMA cache_size = -16000;\n"
            ".shell date +%s.%N\n"
            f".import --csv {self.csv} messages\n"
            ".shell date +%s.%N\n"
            "SELECT count(*) FROM messages;\n"
        )
        done = subprocess.run(
            [self._shell, "-batch", str(path)], input=script, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        answers = done.stdout.split()
        if done.returncode or done.stderr or len(answers) != 3 or int(answers[2]) != self.count:
            raise BenchError(f".import failed: {done.stdout[-500:]} {done.stderr[-500:]}")
        for file in self._folder.glob(f"{path.name}*"):
            file.unlink()
        time.sleep(0.5)  # what the kernel still writes back belongs to this side
        return self.count / (float(answers[1]) - float(answers[0]))


async def _keep(_topic: str, _body: bytes) -> None:
    """Keep nothing."""


if __name__ == "__main__":
    serve(int(sys.argv[1]), _keep)
