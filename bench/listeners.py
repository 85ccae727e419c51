"""Holds streams open and reads them, in a process of its own.

`python -m bench.listeners` takes a `Listening` as JSON from the environment, prints a line once
every stream is open, and reads until SIGTERM. It ends with words where a stream ended by itself.
"""

import asyncio
import json
import os
import signal
from dataclasses import dataclass

#: The variable of the environment; the line that is printed.
VARIABLE = "BENCH_LISTENING"
OPEN = "every stream is open"
#: Bytes that are read at once: a program that handles messages reads no less.
_AT_ONCE = 2**16


@dataclass
class Listening:
    """Which streams to open."""

    port: int
    token: str
    path: str
    streams: int


async def _open(wanted: Listening) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a stream; return its connection, which ends with the writer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", wanted.port)
    head = f"GET {wanted.path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {wanted.token}\r\n"
    writer.write(f"{head}\r\n".encode())
    answer = await reader.readuntil(b"\r\n\r\n")
    if b" 200 " not in answer.split(b"\r\n", 1)[0]:
        raise SystemExit(f"{wanted.path}: {answer[:300]!r}")
    return reader, writer


async def _follow(reader: asyncio.StreamReader) -> None:
    """Read a stream until it ends."""
    while await reader.read(_AT_ONCE):
        pass


async def _run(wanted: Listening) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    links = [await _open(wanted) for _ in range(wanted.streams)]
    print(OPEN, flush=True)
    streams = [asyncio.create_task(_follow(reader)) for reader, _ in links]
    wish = asyncio.create_task(ended.wait())
    done, _ = await asyncio.wait([wish, *streams], return_when=asyncio.FIRST_COMPLETED)
    if wish not in done:
        raise SystemExit(f"{wanted.path}: a stream ended by itself")


def main() -> None:
    """Follow the streams that the environment names."""
    asyncio.run(_run(Listening(**json.loads(os.environ[VARIABLE]))))


if __name__ == "__main__":
    main()
