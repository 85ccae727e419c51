"""A disk that fails, or is slow, for one process: its system calls are answered so, by strace.

The process, and the programs and libraries in it, are as they are; only the kernel's answer is
another one. That is what a process sees of a disk that goes bad, on any machine.
"""

import contextlib
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from harness import wait_until

#: What a program does with a disk -> the calls by which it does so.
WRITES = "write,writev,pwrite64,pwritev"
SYNCS = "fsync,fdatasync"
READS = "read,readv,pread64,preadv"
FAILS = "error=EIO"


def slow(seconds: float) -> str:
    """Return the answer of a disk that takes so long."""
    return f"delay_enter={int(seconds * 1_000_000)}"


def files_below(folder: Path) -> list[Path]:
    """Return all files in a folder and its folders."""
    return [path for path in folder.rglob("*") if path.is_file()]


class Answered:
    """How often a call was answered so, in all processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def count(self) -> int:
        texts = [path.read_text(errors="replace") for path in self._folder.iterdir()]
        return sum(text.count("(INJECTED)") + text.count("(DELAYED)") for text in texts)


@contextlib.contextmanager
def answering(pids: Iterable[int], calls: str, answer: str, *files: Path) -> Iterator[Answered]:
    """Have these calls of the processes answered so for the block; only on `files`, if any.

    So are those of the processes that they start meanwhile.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        _traced(pids, calls, answer, Path(folder), files),
    ):
        yield Answered(Path(folder))


@contextlib.contextmanager
def _traced(
    pids: Iterable[int], calls: str, answer: str, folder: Path, files: Iterable[Path]
) -> Iterator[None]:
    paths = [word for file in files for word in ("-P", str(file))]
    tracers = [
        subprocess.Popen(
            [
                "strace",
                "-qq",
                "-f",
                "-o",
                folder / str(pid),
                "-p",
                str(pid),
                *paths,
                "-e",
                f"trace={calls}",
                "-e",
                f"inject={calls}:{answer}",
            ],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for pid in pids
    ]
    try:
        for tracer, pid in zip(tracers, pids, strict=True):
            wait_until(lambda t=tracer, p=pid: is_held(t, p), "strace holds the process", 30)
        yield
    finally:
        for tracer in tracers:
            tracer.terminate()
            tracer.communicate(timeout=30)


def is_held(tracer: subprocess.Popen[str], pid: int) -> bool:
    """Whether every thread of the process is traced."""
    assert tracer.poll() is None, tracer.stderr.read()
    states = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/status")]
    return all("TracerPid:\t0\n" not in state for state in states)
