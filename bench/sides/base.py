"""What every side has in common."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.harness import Program
from bench.load import Load


@dataclass
class Side:
    """One design, running. `programs` are by role: api, broker, worker."""

    name: str
    what: str
    durability: str
    port: int
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    method: str = "POST"
    #: A file of SQLite's, or the URL of a database of PostgreSQL's.
    database: Path | str | None = None
    batch_path: str | None = None
    programs: dict[str, list[Program]] = field(default_factory=dict)

    def load(self, *, lines: int = 0, topics: Sequence[str] = ("bench",), **how: float) -> Load:
        """Return a load that this side understands."""
        path = (self.batch_path or "") if lines else self.path
        paths = [path.format(topic=topic) for topic in topics]
        return Load(self.port, paths, self.headers, method=self.method, lines=lines, **how)  # type: ignore[arg-type]

    def cpu_seconds(self) -> dict[str, float]:
        """CPU time so far, by role."""
        return {
            role: sum(program.cpu_seconds() for program in programs)
            for role, programs in self.programs.items()
        }

    def check(self) -> None:
        """Raise BenchError if one of the programs has ended."""
        for programs in self.programs.values():
            for program in programs:
                program.check()

    def stop(self) -> None:
        """End the programs that take and store messages, then the broker if it is this side's."""
        for role in ("api", "worker", "own broker"):
            for program in self.programs.get(role, []):
                program.stop()
