"""A Redis stream that is fsynced before each answer, behind webdis: HTTP in C.

Nothing takes the messages out again: there is no row. Every byte of a path is the client's to
choose a command with, so nobody would let strangers reach it.
"""

import json
from contextlib import ExitStack
from pathlib import Path

from bench.harness import Program, find, free_port, listening, wait_until
from bench.sides.base import Side
from bench.sides.redis_stream import start_server


def start(folder: Path, stack: ExitStack) -> Side:
    """Start both programs. Raises MissingError where one of them is not installed."""
    webdis = find("webdis", "webdis")
    server, socket = start_server(folder, "redis-of-webdis", stack)
    port = free_port()
    settings = folder / "webdis.json"
    settings.write_text(
        json.dumps(
            {
                "redis_host": str(socket),
                "http_host": "127.0.0.1",
                "http_port": port,
                "threads": 2,
                "pool_size": 16,
                "daemonize": False,
                "websockets": False,
                "http_max_request_size": 2**20,
                "verbosity": 0,
                "logfile": str(folder / "webdis-own.log"),
            }
        )
    )
    front = Program("webdis", [webdis, str(settings)], folder)
    stack.callback(front.stop)
    wait_until("webdis listens", lambda: listening(port), [front, server])
    return Side(
        name="redis behind webdis",
        what="webdis, XADD; nobody stores what is in the stream; no token, no ids of ours",
        durability="appendfsync always: fsync before the 200; no row",
        port=port,
        method="PUT",
        path="/XADD/{topic}/*/body",
        programs={"api": [front], "broker": [server]},
    )
