"""huey, a task queue in SQLite: a Flask view enqueues, huey's consumer stores.

`python -m bench.sides.huey_queue api|worker` are the two programs. The consumer takes a task off
its queue before it runs it: what it held when it is killed is lost.
"""

import os
import sys
import uuid
from contextlib import ExitStack
from pathlib import Path

from appliance.model.timestamps import now
from appliance.store.sqlite.database import connect
from bench import database
from bench.harness import Program, free_port, listening, python, wait_until
from bench.sides.base import Side

_THREADS = 8


def start(folder: Path, stack: ExitStack) -> Side:
    """Start both programs."""
    port = free_port()
    path = database.make(folder / "huey-rows.db")
    env = {
        "BENCH_PORT": str(port),
        "BENCH_DATABASE": str(path),
        "BENCH_QUEUE": str(folder / "huey.db"),
    }
    programs = {}
    for name in ("worker", "api"):
        program = Program(f"huey-{name}", python("bench.sides.huey_queue", name), folder, env)
        stack.callback(program.stop)
        programs[name] = [program]
    wait_until("huey's API listens", lambda: listening(port), [p for [p] in programs.values()])
    return Side(
        name="huey",
        what=f"Flask on waitress ({_THREADS} threads), SqliteHuey, a consumer, a commit per row",
        durability="fsync before the 202 and at the row; a consumer that dies loses its task",
        port=port,
        path="/topics/{topic}",
        database=path,
        programs=programs,
    )


def main() -> None:
    """Run one of the two programs."""
    import logging

    import waitress
    from flask import Flask, jsonify, request
    from huey import SqliteHuey

    logging.basicConfig(level=logging.WARNING)
    queue = SqliteHuey(filename=os.environ["BENCH_QUEUE"], fsync=True, results=False)
    rows = connect(Path(os.environ["BENCH_DATABASE"]), readonly=False)

    @queue.task()
    def store(message_id: str, topic: str, body: str, received_at: str) -> None:
        rows.execute(
            "INSERT INTO messages (id, topic, body, received_at) VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO NOTHING",
            (message_id, topic, body, received_at),
        )

    if sys.argv[1] == "worker":
        queue.create_consumer(workers=1, periodic=False, backoff=1.0, initial_delay=0.005).run()
        return
    app = Flask("huey")

    @app.post("/topics/<topic>")
    def publish(topic: str):
        message_id, received_at = str(uuid.uuid4()), now()
        store(message_id, topic, request.get_data().decode(), received_at)
        return jsonify(id=message_id, topic=topic, received_at=received_at), 202

    waitress.serve(
        app,
        host="127.0.0.1",
        port=int(os.environ["BENCH_PORT"]),
        threads=_THREADS,
        connection_limit=1000,
    )


if __name__ == "__main__":
    main()
