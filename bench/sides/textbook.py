"""The two programs of the textbooks, kept apart because they promise less.

One publishes as the tutorials do: a connection per publish, a durable queue and a persistent
message, but no confirm, on Flask's own server. The other consumes with `auto_ack` and inserts and
commits each row. What that can lose: the 202 is sent before the broker has the message, the broker
does not fsync a classic queue, and what is delivered counts as done before it is stored.

`python -m bench.sides.textbook api|worker` are the two programs.
"""

import os
import sys
import uuid
from contextlib import ExitStack
from pathlib import Path

import pika
from flask import Flask, Response, jsonify, request

from appliance.model.timestamps import now
from appliance.store.sqlite.database import sqlite3
from bench import database
from bench.harness import Program, free_port, listening, python, wait_until
from bench.sides.base import Side

_QUEUE = "bench.textbook"


def start(folder: Path, broker_url: str, broker: Program, stack: ExitStack) -> Side:
    """Start both programs on the broker that is there."""
    port = free_port()
    path = database.make(folder / "textbook.db")
    env = {"BENCH_BROKER_URL": broker_url, "BENCH_PORT": str(port), "BENCH_DATABASE": str(path)}
    worker = Program("textbook-worker", python("bench.sides.textbook", "worker"), folder, env)
    stack.callback(worker.stop)
    api = Program("textbook-api", python("bench.sides.textbook", "api"), folder, env)
    stack.callback(api.stop)
    wait_until("the textbook API listens", lambda: listening(port), [api, worker])
    return Side(
        name="textbook",
        what="Flask's own server, a connection per publish; auto_ack, an insert and commit per row",
        durability="none promised: no confirm, classic queue without fsync, acked before stored",
        port=port,
        path="/topics/{topic}",
        database=path,
        programs={"api": [api], "worker": [worker], "broker": [broker]},
    )


def _create_app(broker_url: str) -> Flask:
    app = Flask("textbook")

    @app.post("/topics/<topic>")
    def publish(topic: str) -> tuple[Response, int]:
        message_id, received_at = str(uuid.uuid4()), now()
        connection = pika.BlockingConnection(pika.URLParameters(broker_url))
        channel = connection.channel()
        channel.queue_declare(_QUEUE, durable=True)
        channel.basic_publish(
            "",
            _QUEUE,
            request.get_data(),
            pika.BasicProperties(
                delivery_mode=pika.DeliveryMode.Persistent,
                message_id=message_id,
                headers={"topic": topic, "received_at": received_at},
            ),
        )
        connection.close()
        return jsonify(id=message_id, topic=topic, received_at=received_at), 202

    return app


def _work(broker_url: str, path: str) -> None:
    store = sqlite3.connect(path)
    channel = pika.BlockingConnection(pika.URLParameters(broker_url)).channel()
    channel.queue_declare(_QUEUE, durable=True)

    def handle(channel, method, properties, body: bytes) -> None:  # noqa: ARG001  # pika's signature
        headers = properties.headers
        store.execute(
            "INSERT INTO messages (id, topic, body, received_at) VALUES (?, ?, ?, ?)",
            (properties.message_id, headers["topic"], body.decode(), headers["received_at"]),
        )
        store.commit()

    channel.basic_consume(_QUEUE, handle, auto_ack=True)
    channel.start_consuming()


if __name__ == "__main__":
    if sys.argv[1] == "api":
        port = int(os.environ["BENCH_PORT"])
        _create_app(os.environ["BENCH_BROKER_URL"]).run("127.0.0.1", port, threaded=True)
    else:
        _work(os.environ["BENCH_BROKER_URL"], os.environ["BENCH_DATABASE"])
