"""A Redis stream that is fsynced before each answer, behind a minimal HTTP front.

`python -m bench.sides.redis_stream PORT SOCKET` is the front. Nothing takes the messages out again:
there is no row of SQLite, so this side does half of what the others do.
"""

import sys
from contextlib import ExitStack
from pathlib import Path

from bench.harness import Program, find, free_port, listening, python, wait_until
from bench.sides.base import Side


def start_server(folder: Path, name: str, stack: ExitStack) -> tuple[Program, Path]:
    """Start Redis; return it and its socket. Raises MissingError where there is no redis-server."""
    data = folder / name
    data.mkdir()
    socket = data / "socket"
    server = Program(
        name,
        [
            find("redis-server", "redis-server"), "--port", "0", "--unixsocket", str(socket),
            "--dir", str(data), "--appendonly", "yes", "--appendfsync", "always", "--save", "",
        ],
        folder,
    )  # fmt: skip
    stack.callback(server.stop)
    wait_until("redis listens", socket.exists, [server])
    return server, socket


def start(folder: Path, stack: ExitStack) -> Side:
    """Start both programs. Raises MissingError where there is no redis-server."""
    server, socket = start_server(folder, "redis", stack)
    port = free_port()
    front = Program(
        "redis-front", python("bench.sides.redis_stream", str(port), str(socket)), folder
    )
    stack.callback(front.stop)
    wait_until("its front listens", lambda: listening(port), [front, server])
    return Side(
        name="redis stream",
        what="uvicorn and redis-py, XADD; nobody stores what is in the stream",
        durability="appendfsync always: fsync before the 202; no row",
        port=port,
        path="/topics/{topic}",
        programs={"api": [front], "broker": [server]},
    )


def main() -> None:
    """Serve the front."""
    import redis.asyncio as redis

    from bench.sides.front import serve

    client = redis.Redis(unix_socket_path=sys.argv[2], max_connections=256)
    serve(int(sys.argv[1]), lambda topic, body: client.xadd(topic, {"body": body}))


if __name__ == "__main__":
    main()
