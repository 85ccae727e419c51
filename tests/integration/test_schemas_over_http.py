"""JSON Schemas on a real stack: observe, quarantine, reject, by HTTP and by the command line."""

import contextlib
import json
import sqlite3
import threading
import time

import orjson
import pytest
from harness import wait_until
from load import wait_accepting, wait_drained

pytestmark = pytest.mark.slow

SCHEMA = {"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}}}
NDJSON = {"Content-Type": "application/x-ndjson"}
BATCH = b'{"id":1}\n\n{"id":"SECRET"}\n{}\n{"id":4}\n'


@pytest.fixture(scope="module")
def running(module_stack):
    return module_stack(workers=1)


@pytest.fixture
def topic(request):
    return request.node.name.removeprefix("test_").replace("_", "-")[:90]


def put(running, topic, schema=SCHEMA, mode="reject"):
    return running.client.put(
        f"/v1/topics/{topic}/schema", params={"mode": mode}, content=orjson.dumps(schema)
    )


def post(running, topic, body, query="", **headers):
    return running.client.post(f"/v1/topics/{topic}/messages{query}", content=body, headers=headers)


def stored(running, topic):
    wait_drained(running)
    answer = running.client.get(f"/v1/topics/{topic}/messages", params={"after": "0"})
    return answer.json()["messages"] if answer.status_code == 200 else []


def letters(running, topic):
    wait_drained(running)
    answer = running.client.get("/v1/dead-letters", params={"topic": topic})
    return answer.json()["dead_letters"][::-1]


def test_rejecting_refuses_what_the_schema_does_not_allow(running, topic):
    assert put(running, topic).status_code == 201
    assert put(running, topic).status_code == 200
    refused = post(running, topic, b'{"id":"SECRET"}')
    assert refused.status_code == 422
    problem = refused.json()
    assert problem["type"] == "urn:queue-appliance:problem:schema"
    assert problem["detail"] == '/id: the value is not of type "integer"; nothing was kept'
    for body in (b"no", b"[]", b"\xff", b"{}", b"[" * 5000):
        assert post(running, topic, body).status_code == 422
    assert post(running, topic, b'{"id":1}').status_code == 202
    batch = post(running, topic, BATCH, **NDJSON)
    assert batch.status_code == 422
    assert batch.json()["detail"].startswith("line 3: /id: the value is not of type")
    assert [m["body"] for m in stored(running, topic)] == ['{"id":1}']
    assert letters(running, topic) == []


def test_rejecting_makes_dead_letters_of_bad_lines_where_the_sender_asks(running, topic):
    put(running, topic)
    told = post(running, topic, BATCH + b"no\n", "?on-bad=dead-letter&line=11", **NDJSON).json()
    assert told["count"] == 2
    assert told["dead"] == {
        "count": 3,
        "reasons": {"schema": 2, "not-json": 1},
        "lines": [13, 14, 16],
    }
    assert [m["body"] for m in stored(running, topic)] == ['{"id":1}', '{"id":4}']
    dead = letters(running, topic)
    assert [letter["reason"] for letter in dead] == ["schema", "schema", "not-json"]
    assert [letter["meta"]["line"] for letter in dead] == [13, 14, 16]
    assert "quarantine" not in dead[0]["meta"]


def test_quarantining_keeps_it_as_a_dead_letter_and_says_so(running, topic):
    put(running, topic, mode="quarantine")
    answer = post(running, topic, b'{"id":"x"}', **{"Content-Type": "application/json"})
    assert answer.status_code == 202
    told = answer.json()
    assert (told["status"], told["reason"]) == ("quarantined", "schema")
    assert told["error"] == '/id: the value is not of type "integer"'
    (letter,) = letters(running, topic)
    assert (letter["id"], letter["body"]) == (told["id"], '{"id":"x"}')
    assert letter["content_type"] == "application/json"
    assert letter["meta"]["quarantine"] == f"topic {topic}"
    assert running.client.get(answer.headers["location"]).json()["status"] != "stored"
    batch = post(running, topic, BATCH, "?split=lines").json()
    assert (batch["count"], batch["dead"]["lines"]) == (2, [3, 4])
    array = post(running, topic, b'[{"id":1},{},{"id":3}]', "?split=array").json()
    assert (array["count"], array["dead"]["lines"]) == (2, [2])
    assert len(stored(running, topic)) == 4
    assert [letter["error"] for letter in letters(running, topic)][-1].startswith("message 2: ")


def test_quarantining_the_same_key_again_is_the_same_letter_also_after_a_restart(running, topic):
    put(running, topic, mode="quarantine")

    def send(body=b"{}"):
        return post(running, topic, body, **{"Idempotency-Key": "k"}).json()

    first = send()
    assert send()["id"] == first["id"]
    wait_drained(running)
    running.api.kill()
    running.api.start()
    wait_accepting(running)
    again = send()
    assert (again["id"], again["status"]) == (first["id"], "quarantined")
    assert len(letters(running, topic)) == 1


def test_observing_stores_all_and_marks_what_is_not_valid(running, topic):
    put(running, topic, mode="observe")
    assert post(running, topic, b'{"id":1}').status_code == 202
    assert post(running, topic, b"no").status_code == 202
    assert post(running, topic, BATCH, **NDJSON, **{"X-Event-Id": "e"}).json()["count"] == 4
    found = stored(running, topic)
    assert [m["body"] for m in found][:2] == ['{"id":1}', "no"]
    marks = [(m["meta"] or {}).get("schema") for m in found]
    assert [bool(mark) for mark in marks] == [False, True, False, True, True, False]
    assert marks[1].startswith("invalid: not JSON (")
    assert found[2]["meta"]["headers"]["x-event-id"] == "e"
    shown = running.client.get(f"/v1/topics/{topic}/schema").json()
    assert (shown["checked"], shown["invalid"], shown["mode"]) == (6, 3, "observe")
    assert shown["schema"] == SCHEMA


def test_a_schema_is_in_force_at_once_and_gone_at_once_on_a_kept_connection(running, topic):
    for _ in range(3):
        assert post(running, topic, b"x").status_code == 202
        assert put(running, topic).status_code == 201
        assert post(running, topic, b"x").status_code == 422
        assert running.client.delete(f"/v1/topics/{topic}/schema").status_code == 204
    assert post(running, topic, b"x").status_code == 202
    assert running.client.delete(f"/v1/topics/{topic}/schema").status_code == 404
    assert running.client.get(f"/v1/topics/{topic}/schema").status_code == 404


def test_a_schema_holds_for_an_inbox_address_too(running, topic):
    put(running, topic)
    made = running.client.post("/v1/inboxes", json={"topic": topic, "kind": "open"}).json()
    path = made["address"][made["address"].index("/in/") :]
    assert running.client.post(path, content=b"{}").status_code == 422
    assert running.client.post(path, content=b'{"id":1}').status_code in (200, 202)
    put(running, topic, mode="quarantine")
    assert running.client.post(path, content=b"{}").status_code in (200, 202)
    (letter,) = letters(running, topic)
    assert letter["meta"]["inbox"] == topic


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("schema", b"", 400),
        ("schema", b"{", 400),
        ("schema", b'{"$ref":"http://127.0.0.1:9/"}', 400),
        ("schema", b'{"$ref":"#"}', 400),
        ("schema", b'{"type":"foo"}', 400),
        ("schema", b" " * 70_000, 413),
        ("schema?mode=drop", b"{}", 400),
        ("schema?x=1", b"{}", 400),
    ],
)
def test_a_bad_schema_is_refused_in_words(running, path, body, status):
    answer = running.client.put(f"/v1/topics/bad-schema/{path}", content=body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert running.client.get("/v1/topics/bad-schema/schema").status_code == 404


def test_a_schema_changes_nothing_for_other_topics_and_writes_the_audit_trail(running, topic):
    put(running, topic)
    assert post(running, f"{topic}-other", b"x").status_code == 202
    running.client.delete(f"/v1/topics/{topic}/schema")
    with contextlib.closing(sqlite3.connect(f"file:{running.database}?mode=ro", uri=True)) as db:
        deeds = db.execute("SELECT action FROM audit WHERE target = ?", (topic,)).fetchall()
    assert deeds == [("schema-set",), ("schema-remove",)]


def test_a_large_batch_is_checked_while_others_are_served(running, topic):
    put(running, topic, mode="quarantine")
    body = b'{"id":12345678}\n' * 90_000 + b'{"id":"x"}\n'
    slowest = 0.0
    done = threading.Event()

    def look():
        nonlocal slowest
        while not done.is_set():
            began = time.monotonic()
            running.client.get("/healthz")
            slowest = max(slowest, time.monotonic() - began)

    looking = threading.Thread(target=look)
    looking.start()
    answer = post(running, topic, body, "?split=lines")
    done.set()
    looking.join()
    assert answer.json()["dead"] == {"count": 1, "reasons": {"schema": 1}, "lines": [90_001]}
    assert slowest < 2  # without turns the whole batch is checked at once
    wait_until(lambda: len(letters(running, topic)) == 1, "the letter")


# --- the command line


def test_the_command_line_tries_sets_shows_and_removes(running, topic, tmp_path):
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(SCHEMA))
    post(running, topic, BATCH, "?split=lines")
    wait_drained(running)
    tried = running.cli("schema", "test", topic, "--file", str(path))
    assert tried.returncode == 1
    assert b"2 of 4 messages are not valid" in tried.stderr
    assert b'/id: the value is not of type "integer"' in tried.stdout
    done = running.cli("schema", "set", topic, "--file", str(path), "--mode", "quarantine")
    assert done.returncode == 0, done.stderr
    assert b"quarantine; bodies of up to" in done.stderr
    shown = running.cli("schema", "show", topic)
    assert json.loads(shown.stdout) == SCHEMA
    sent = running.cli("publish", topic, "{}")
    assert (sent.returncode, len(letters(running, topic))) == (0, 1)
    assert b"1 message became a dead letter (1 schema): appliance dead list" in sent.stderr
    answer = running.client.get("/v1/schemas").json()["schemas"]
    assert topic in [each["topic"] for each in answer]
    assert running.cli("schema", "remove", topic).returncode == 0
    gone = running.cli("schema", "show", topic)
    assert (gone.returncode, b"has no schema" in gone.stderr) == (1, True)
    path.write_text('{"type": "foo"}')
    bad = running.cli("schema", "set", topic, "--file", str(path))
    assert bad.returncode == 1
    assert b"the schema is not valid" in bad.stderr
