"""Writing an export for `appliance export`: its file, its count, its progress."""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import click

from appliance.cli.text.words import counted, size
from appliance.errors import FolderError
from appliance.machine import files

#: Seconds between two looks at the progress.
_SHOW_EVERY: Final = 0.2


@contextmanager
def opened(output: Path | None) -> Iterator[BinaryIO]:
    """Lend the file that is written: whole or not at all. None: standard output.

    Raises FolderError where it can't be written.
    """
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        with files.replaced(output) as file:
            yield file
    except OSError as error:
        raise FolderError(f"--output: {output} can't be written: {error.strerror}") from error


class Tally:
    """Counts what an export has written, and shows it on a terminal that shows nothing else."""

    def __init__(self, noun: str = "message") -> None:
        self.rows = 0
        self.bytes = 0
        self._noun = noun
        self._began = time.monotonic()
        self._next_show = self._began + _SHOW_EVERY
        self._shown = sys.stderr.isatty() and not sys.stdout.isatty()

    def add(self, rows: int, length: int) -> None:
        """Count some more; show it now and then."""
        self.rows += rows
        self.bytes += length
        if self._shown and time.monotonic() >= self._next_show:
            self._next_show = time.monotonic() + _SHOW_EVERY
            click.echo(f"\r\x1b[K{self.words()}\r", nl=False, err=True)

    def end(self) -> None:
        """Remove the progress."""
        if self._shown:
            click.echo("\r\x1b[K", nl=False, err=True)

    def words(self) -> str:
        """Return for example `1,200 messages (1.5 MiB) in 0.3 s`."""
        seconds = time.monotonic() - self._began
        return f"{counted(self.rows, self._noun)} ({size(self.bytes)}) in {seconds:.1f} s"


def copied(pieces: Iterable[bytes], file: BinaryIO, tally: Tally, *, table: bool) -> None:
    """Write the pieces of an export; `table`: CSV with a line of titles, else a line a message."""
    quoted, titles = False, int(table)
    for piece in pieces:
        file.write(piece)
        if table:
            parts = piece.split(b'"')  # each second one is within a quoted cell
            lines = sum(part.count(b"\n") for part in parts[int(quoted) :: 2])
            quoted ^= len(parts) % 2 == 0
        else:
            lines = piece.count(b"\n")
        tally.add(lines - titles, len(piece))
        titles = 0
