"""NATS JetStream on disk, behind a minimal HTTP front.

`python -m bench.sides.nats_jetstream PORT NATS` is the front. From 2.10 on the server can fsync
before it acknowledges (`sync_interval: always`), and is told to. Debian's 2.9 can't: a power cut
loses up to two minutes. `go install github.com/nats-io/nats-server/v2@latest` makes a new one.
Nothing takes the messages out again, so there is no row.
"""

import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from bench.harness import Program, find, free_port, listening, python, wait_until
from bench.sides.base import Side

#: The first version that can fsync before it acknowledges.
_SYNCS = (2, 10)
#: By whether it does: what a 202 means.
_PROMISES = {
    True: "sync_interval: always, fsync before the 202 (nats-server {}); no row",
    False: "written, fsynced up to two minutes after the 202 (nats-server {}); no row",
}


def _version(program: str) -> tuple[int, ...]:
    shown = subprocess.run([program, "--version"], check=True, capture_output=True, text=True)
    found = re.search(r"v(\d+)\.(\d+)\.(\d+)", shown.stdout)
    return tuple(map(int, found.groups())) if found else (0, 0, 0)


def start(folder: Path, stack: ExitStack) -> Side:
    """Start both programs. Raises MissingError where there is no nats-server."""
    nats, port = free_port(), free_port()
    program = find("nats-server", "nats-server")
    version = _version(program)
    is_synced = version >= _SYNCS
    settings = folder / "nats.conf"
    sync = ", sync_interval: always" if is_synced else ""
    settings.write_text(f'jetstream {{ store_dir: "{folder / "nats"}"{sync} }}\n')
    server = Program(
        "nats",
        [program, "--addr", "127.0.0.1", "--port", str(nats), "--config", str(settings)],
        folder,
    )
    stack.callback(server.stop)
    wait_until("nats listens", lambda: listening(nats), [server])
    command = python("bench.sides.nats_jetstream", str(port), str(nats))
    front = Program("nats-front", command, folder)
    stack.callback(front.stop)
    wait_until("its front listens", lambda: listening(port), [front, server])
    return Side(
        name="NATS JetStream",
        what="uvicorn and nats-py, publish to a stream on disk; nobody stores what is in it",
        durability=_PROMISES[is_synced].format(".".join(map(str, version))),
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
