"""The naive design, made as durable as ours: what a careful team writes in an afternoon.

A threaded Flask view publishes on its thread's own blocking connection and waits for the broker's
confirm; the worker stores each message in a transaction of its own and acknowledges it alone.
Everything that can be had without another design is given to it: keep-alive, connections that
last, the same quorum queue, WAL, the same SQLite, a prefetch, and the server and number of threads
that were the fastest of those tried (see docs/performance.md).

`python -m bench.sides.naive api|worker` are the two programs.
"""

import os
import sys
import threading
import uuid
from contextlib import ExitStack
from pathlib import Path

import pika
import waitress
from flask import Flask, Response, jsonify, request

from appliance.model.timestamps import now
from appliance.store.sqlite.database import connect
from bench import database
from bench.harness import Program, free_port, listening, python, wait_until
from bench.sides.base import Side

_QUEUE = "bench.naive"
_THREADS = 8
_PREFETCH = 100
#: waitress takes 100 at once unless told otherwise.
_CONNECTIONS = 1000


def start(folder: Path, broker_url: str, broker: Program, stack: ExitStack) -> Side:
    """Start both programs on the broker that is there."""
    port = free_port()
    path = database.make(folder / "naive.db")
    env = {"BENCH_BROKER_URL": broker_url, "BENCH_PORT": str(port), "BENCH_DATABASE": str(path)}
    worker = Program("naive-worker", python("bench.sides.naive", "worker"), folder, env)
    stack.callback(worker.stop)
    api = Program("naive-api", python("bench.sides.naive", "api"), folder, env)
    stack.callback(api.stop)
    wait_until("the naive API listens", lambda: listening(port), [api, worker])
    return Side(
        name="naive",
        what=f"Flask on waitress ({_THREADS} threads), blocking publish, a commit and ack per row",
        durability="the same as ours: confirm from a quorum queue, commit with fsync before ack",
        port=port,
        path="/topics/{topic}",
        database=path,
        programs={"api": [api], "worker": [worker], "broker": [broker]},
    )


def _declare(channel) -> None:
    channel.queue_declare(_QUEUE, durable=True, arguments={"x-queue-type": "quorum"})


def _create_app(broker_url: str) -> Flask:
    app = Flask("naive")
    local = threading.local()

    def thread_channel():
        if not hasattr(local, "channel"):
            connection = pika.BlockingConnection(pika.URLParameters(broker_url))
            local.channel = connection.channel()
            local.channel.confirm_delivery()
            _declare(local.channel)
        return local.channel

    @app.post("/topics/<topic>")
    def publish(topic: str) -> tuple[Response, int]:
        message_id, received_at = str(uuid.uuid4()), now()
        thread_channel().basic_publish(
            "",
            _QUEUE,
            request.get_data(),
            pika.BasicProperties(
                delivery_mode=pika.DeliveryMode.Persistent,
                message_id=message_id,
                headers={"topic": topic, "received_at": received_at},
            ),
            mandatory=True,
        )
        return jsonify(id=message_id, topic=topic, received_at=received_at), 202

    return app


def _work(broker_url: str, path: Path) -> None:
    store = connect(path, readonly=False)
    channel = pika.BlockingConnection(pika.URLParameters(broker_url)).channel()
    _declare(channel)
    channel.basic_qos(prefetch_count=_PREFETCH)

    def handle(channel, method, properties, body: bytes) -> None:
        headers = properties.headers
        store.execute("BEGIN IMMEDIATE")
        store.execute(
            "INSERT INTO messages (id, topic, body, received_at) VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO NOTHING",
            (properties.message_id, headers["topic"], body.decode(), headers["received_at"]),
        )
        store.execute("COMMIT")
        channel.basic_ack(method.delivery_tag)

    channel.basic_consume(_QUEUE, handle)
    channel.start_consuming()


if __name__ == "__main__":
    if sys.argv[1] == "api":
        waitress.serve(
            _create_app(os.environ["BENCH_BROKER_URL"]),
            host="127.0.0.1",
            port=int(os.environ["BENCH_PORT"]),
            threads=_THREADS,
            connection_limit=_CONNECTIONS,
        )
    else:
        _work(os.environ["BENCH_BROKER_URL"], Path(os.environ["BENCH_DATABASE"]))
