"""NATS JetStream on disk, behind a minimal HTTP front.

`python -m bench.sides.nats_jetstream PORT NATS` is the front. Debian's 2.9 can't fsync before it
acknowledges (`sync_interval: always` came with 2.10): a power cut loses up to two minutes. And
nothing takes the messages out again, so there is no row.
"""

import sys
from contextlib import ExitStack
from pathlib import Path

from bench.harness import Program, find, free_port, listening, python, wait_until
from bench.sides.base import Side


def start(folder: Path, stack: ExitStack) -> Side:
    """Start both programs. Raises MissingError where there is no nats-server."""
    nats, port = free_port(), free_port()
    server = Program(
        "nats",
        [
            find("nats-server", "nats-server"), "--addr", "127.0.0.1", "--port", str(nats),
            "--jetstream", "--store_dir", str(folder / "nats"),
        ],
        folder,
    )  # fmt: skip
    stack.callback(server.stop)
    wait_until("nats listens", lambda: listening(nats), [server])
    command = python("bench.sides.nats_jetstream", str(port), str(nats))
    front = Program("nats-front", command, folder)
    stack.callback(front.stop)
    wait_until("its front listens", lambda: listening(port), [front, server])
    return Side(
        name="NATS JetStream",
        what="uvicorn and nats-py, publish to a stream on disk; nobody stores what is in it",
        durability="written, fsynced up to two minutes after the 202 (nats-server 2.9); no row",
        port=port,
        path="/topics/{topic}",
        programs={"api": [front], "broker": [server]},
    )


def main() -> None:
    """Serve the front."""
    import nats

    from bench.sides.front import serve

    stream = None

    async def start() -> None:
        nonlocal stream
        client = await nats.connect(f"nats://127.0.0.1:{sys.argv[2]}")
        stream = client.jetstream()
        await stream.add_stream(name="bench", subjects=["bench.>"])

    async def keep(topic: str, body: bytes) -> None:
        while stream is None:
            await nats.aio.client.asyncio.sleep(0.01)
        await stream.publish(f"bench.{topic}", body)

    serve(int(sys.argv[1]), keep, start)


if __name__ == "__main__":
    main()
