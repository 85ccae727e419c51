"""Runs a query of somebody's own for numbers of messages, in a process of its own.

So whatever is asked, it can be ended and its memory is bounded: SQLite looks at no clock within a
function, and a query can double a text until nothing is left. The process is gone when the answer
is there. See `own_query_process` for what the query may do.
"""

import io
import os
import subprocess
import sys
import threading
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from appliance.errors import InputError, StoreError
from appliance.store import own_queries
from appliance.store.own_queries import EXAMPLE, QUERY_SECONDS, checked
from appliance.store.sqlite.own_query_process import BAD_QUERY

#: Seconds beyond the query's own until its process is ended.
_PATIENCE: Final = 3.0
#: Bytes that are read at once.
_READ: Final = 64 * 1024
#: Bytes of words about a failure.
_WORDS: Final = 2000
#: What of the environment the process gets: no secret is in it.
_PASSED: Final = ("PATH", "PYTHONPATH", "SQLITE_TMPDIR", "TMPDIR")


def seqs_found(path: Path, sql: str, seconds: float = QUERY_SECONDS) -> Iterator[int]:
    """Yield the numbers of messages that a query finds, in order, each once.

    Numbers of messages that are not there are left out. Raises InputError, in words for whoever
    wrote the query, and StoreError.
    """
    query = checked(sql).encode()
    module = f"{__name__}_process"
    command = [sys.executable, "-P", "-m", module, str(path.absolute()), str(seconds)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/",
        env={name: os.environ[name] for name in _PASSED if name in os.environ},
    ) as process:  # fmt: skip
        timer = threading.Timer(seconds + _PATIENCE, process.kill)
        timer.start()
        try:
            yield from _read(process, query)
            _check(process, seconds)
        finally:
            timer.cancel()
            process.kill()


def _read(process: "subprocess.Popen[bytes]", query: bytes) -> Iterator[int]:
    stdin, stdout = process.stdin, process.stdout
    assert stdin is not None  # noqa: S101  # it is a pipe
    assert isinstance(stdout, io.BufferedReader)  # noqa: S101  # so is this
    try:
        stdin.write(query)
        stdin.close()
    except BrokenPipeError:
        return  # it says why
    count, rest = 0, b""
    while data := stdout.read1(_READ):
        data = rest + data
        whole = len(data) - len(data) % 8
        rest = data[whole:]
        seqs = array("q", data[:whole])
        count += len(seqs)
        if count > own_queries.MOST_FOUND:
            raise own_queries.too_many()
        yield from seqs


def _check(process: "subprocess.Popen[bytes]", seconds: float) -> None:
    """Raise what the process says of a failure."""
    if process.wait() == 0:
        return
    words = ""
    if process.stderr is not None:
        words = process.stderr.read(_WORDS).decode(errors="replace").strip()
    if process.returncode == BAD_QUERY:
        raise InputError(f"sql: {words}")
    if process.returncode < 0:
        raise InputError(f"sql: it was ended, as it took longer than {seconds:.0f} s; {EXAMPLE}")
    raise StoreError(f"a query could not be made: {words[-200:]}")
