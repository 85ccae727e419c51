"""The largest bodies that a setting allows, 32 MiB, all the way: in, stored, read, sent again."""

import gzip
import hashlib
import json
import os

import pytest
from harness import wait_until

MIB = 2**20
LARGEST = 32 * MIB


@pytest.fixture(scope="module")
def running(module_stack):
    return module_stack(
        max_message_bytes=LARGEST, max_request_bytes=LARGEST, publish_timeout=60, min_free_bytes=0
    )


def digest(body):
    return hashlib.sha256(body if isinstance(body, bytes) else body.encode()).hexdigest()


@pytest.mark.parametrize(
    ("name", "body"),
    [
        (
            "text",
            lambda: (b"a line of text, and one more of \xc3\xa9.\n" * (LARGEST // 32))[:LARGEST],
        ),
        ("bytes", lambda: os.urandom(LARGEST)),
        ("controls", lambda: b"\x01\x02" * (LARGEST // 2)),
    ],
)
def test_the_largest_message_is_stored_and_comes_back_as_it_was(running, name, body):
    sent = body()
    answer = running.publish(name, sent, Prefer="wait=60")
    assert answer.status_code == 201, answer.text
    row = answer.json()
    got = running.get(f"/v1/messages/{row['id']}/body", timeout=60)
    assert digest(got.content) == digest(sent)
    (stored,) = running.query(
        "SELECT length(CAST(body AS BLOB)) AS size, typeof(body) AS type FROM messages"
        " WHERE topic = ?",
        name,
    )
    assert tuple(stored) == (len(sent), "blob" if name == "bytes" else "text")
    # On a page with others, and in an export.
    assert running.publish(name, b"small", Prefer="wait=60").status_code == 201
    page = running.get(f"/v1/topics/{name}/messages", timeout=60).json()["messages"]
    assert page[0]["body"] == "small"
    lines = running.get(f"/v1/topics/{name}/messages", params={"format": "ndjson"}, timeout=60)
    largest = next(
        message for message in map(json.loads, lines.iter_lines()) if message["id"] == row["id"]
    )
    if name != "bytes":
        assert digest(largest["body"]) == digest(sent)
    assert running.publish(name, sent + b"x").status_code == 413


def test_the_largest_batch_of_control_characters_stays_text(running):
    """JSON would write it six times as large: more than the broker takes."""
    lines = [b"\x01" * 1023] * (LARGEST // 1024)
    body = b"\n".join(lines) + b"\n"
    answer = running.publish("batch", body, {"split": "lines"}, Prefer="wait=60")
    assert answer.status_code == 201, answer.text
    (row,) = running.query(
        "SELECT count(*) AS n, sum(length(CAST(body AS BLOB))) AS size, min(typeof(body)) AS type"
        " FROM messages WHERE topic = 'batch'"
    )
    assert tuple(row) == (len(lines), len(lines) * 1023, "text")


def test_the_largest_body_can_come_packed(running):
    body = b'{"n":12345,"text":"a line of a log that is sent packed"}\n' * (LARGEST // 57)
    packed = gzip.compress(body, 1)
    options = {"Content_Encoding": "gzip", "Prefer": "wait=60"}
    assert running.publish("packed", packed, **options).status_code == 201
    (row,) = running.query(
        "SELECT length(CAST(body AS BLOB)) AS n FROM messages WHERE topic = 'packed'"
    )
    assert row["n"] == len(body)
    answer = running.publish("packed", gzip.compress(b"x" * (LARGEST + 1), 1), **options)
    assert answer.status_code == 413


def test_the_largest_file_of_a_form_is_stored(running):
    sent = os.urandom(LARGEST - 1024)
    answer = running.client.post(
        "/v1/topics/file/messages", files={"f": ("a.bin", sent)}, headers={"Prefer": "wait=60"}
    )
    assert answer.status_code == 201, answer.text
    (row,) = running.rows("file")
    assert digest(row["body"]) == digest(sent)


def test_many_of_the_largest_messages_wait_for_a_worker_and_are_stored(running):
    """More of them than a worker holds at once; then one is sent again as a dead letter."""
    worker = running.workers[0]
    worker.stop()
    bodies = [bytes([65 + n]) * LARGEST for n in range(12)]
    for body in bodies:
        answer = running.publish("queued", body)
        assert answer.status_code == 202, answer.text
    worker.start()
    running.wait_ready()
    wait_until(lambda: running.count("queued") == len(bodies), "all of them stored", 60)
    rows = running.query(
        "SELECT substr(body, 1, 1) AS b, length(CAST(body AS BLOB)) AS n FROM messages"
        " WHERE topic = 'queued' ORDER BY seq"
    )
    assert [(row["b"].encode(), row["n"]) for row in rows] == [(b[:1], LARGEST) for b in bodies]
