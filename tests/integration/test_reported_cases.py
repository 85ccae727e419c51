"""What users of programs like this one reported elsewhere, tried here as they would do it.

Each test is named for what people need. Two cases need more than a running appliance: little memory
(tests/image), and a proxy (test_behind_a_proxy.py).
"""

import concurrent.futures
import csv
import gzip
import io
import json
import socket
import sqlite3
import time
from datetime import UTC, datetime, timedelta

import httpx
import pika
import pytest
from harness import Process, free_port, wait_until
from load import amqp, wait_drained

from appliance.broker import base

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def running(module_stack):
    made = module_stack(retention="kept: rows=500; swept: rows=10; *: rows=1000000")
    # Retention deletes nothing that is younger than a minute: what it must not delete is there
    # from the beginning, and is looked at in the last test.
    delete_some_rows(made)
    post(made, "swept", "\n".join("another" for _ in range(1000)), split="lines")
    made.wait_rows(1000, "swept")
    made.janitor = Process("janitor", made.env, made.folder)
    made.janitor.start()
    yield made
    made.janitor.kill()


def delete_some_rows(running):
    """Delete 400 of 450 rows with SQL, and go on: 210 are left."""
    post(running, "kept", "\n".join(f"line {n}" for n in range(450)), split="lines")
    running.wait_rows(450, "kept")
    write(
        running,
        "DELETE FROM messages WHERE topic = 'kept' AND seq <= "
        "(SELECT min(seq) + 399 FROM messages WHERE topic = 'kept')",
    )
    post(running, "kept", "\n".join(f"more {n}" for n in range(160)), split="lines")
    running.wait_rows(210, "kept")


def post(running, topic, content, content_type=None, **parameters):
    """Publish; return the answer. The topic may be any name."""
    headers = {} if content_type is None else {"Content-Type": content_type}
    return running.client.post(
        f"/v1/topics/{topic}/messages", content=content, headers=headers, params=parameters
    )


def bodies(running, topic):
    wait_drained(running)
    return [row["body"] for row in running.rows(topic)]


def write(running, sql):
    """Change the database beside the running appliance, as anyone with sqlite3 does."""
    with sqlite3.connect(running.database, timeout=10, isolation_level=None) as database:
        database.execute(sql)
    database.close()


# --- rows and numbers


def test_one_message_that_the_database_refuses_takes_no_other_with_it(running):
    write(
        running,
        "CREATE TRIGGER only_json BEFORE INSERT ON messages WHEN new.topic = 'share' "
        "AND NOT json_valid(new.body) BEGIN SELECT RAISE(ABORT, 'not json'); END",
    )
    try:
        with concurrent.futures.ThreadPoolExecutor(20) as threads:
            texts = ["bad" if number in (50, 150, 299) else "{}" for number in range(300)]
            answers = list(threads.map(lambda text: post(running, "share", text), texts))
            batch = post(running, "share", '{"a":1}\nbad\n{"a":2}', split="lines")
        assert {answer.status_code for answer in (*answers, batch)} == {202}
        running.wait_rows(299, "share")
        wait_drained(running)
    finally:
        write(running, "DROP TRIGGER only_json")
    assert running.count("share") == 299
    dead = running.query("SELECT body FROM dead_letters WHERE topic = 'share'")
    assert [bytes(row["body"]) if isinstance(row["body"], bytes) else row["body"].encode()
            for row in dead] == [b"bad"] * 4  # fmt: skip


def test_column_of_ones_own_is_no_damage_to_verify(running):
    write(running, "ALTER TABLE messages ADD COLUMN done INTEGER DEFAULT 0")
    write(running, "CREATE INDEX mine ON messages (done)")
    try:
        post(running, "column", "hello")
        assert bodies(running, "column") == ["hello"]
        done = running.cli("verify")
        assert done.returncode == 0, done.stdout
        assert b"WRONG" not in done.stdout
    finally:
        write(running, "DROP INDEX mine")
        write(running, "ALTER TABLE messages DROP COLUMN done")


def test_stopped_appliances_database_is_read_from_where_nothing_can_be_written(running, tmp_path):
    post(running, "stopped", "hello")
    bodies(running, "stopped")
    for process in (running.janitor, running.api, *running.workers):
        process.stop()
    try:
        # Without the files beside it a read-only mount lets nobody open it but so.
        link = sqlite3.connect(f"file:{running.database}?immutable=1", uri=True)
        found = link.execute("SELECT body FROM messages WHERE topic = 'stopped'").fetchall()
        link.close()
        assert found == [("hello",)]
    finally:
        for process in (running.janitor, running.api, *running.workers):
            process.start()
        running.wait_ready()


# --- what is kept beside a body


def test_event_of_a_webhook_can_be_told_from_another_of_the_same_body(running):
    for event in ("push", "create"):
        answer = running.client.post(
            "/v1/topics/events/messages",
            content=b'{"ref":"refs/heads/main"}',
            headers={
                "Content-Type": "application/json",
                "X-GitHub-Event": event,
                "X-GitHub-Delivery": f"delivery-{event}",
                "X-Hub-Signature-256": "sha256=abc",
            },
        )
        assert answer.status_code == 202
    wait_drained(running)
    sql = (
        "SELECT meta ->> '$.headers.x-github-event', meta ->> '$.headers.x-hub-signature-256', "
        "content_type FROM messages WHERE topic = 'events' ORDER BY seq"
    )
    assert [tuple(row) for row in running.query(sql)] == [
        ("push", "sha256=abc", "application/json"),
        ("create", "sha256=abc", "application/json"),
    ]
    shown = running.get("/v1/topics/events/messages?limit=1").json()["messages"][0]
    body = running.get(f"/v1/messages/{shown['id']}/body")
    assert body.headers["content-type"] == "application/json"


# --- bodies


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_log_of_windows_in_utf_16_becomes_its_lines(running, encoding):
    text = "line one\r\nline two \u00f6\u00e4\r\n"
    mark = {"utf-16": "", "utf-16-le": "\ufeff", "utf-16-be": "\ufeff"}[encoding]
    answer = post(running, encoding, (mark + text).encode(encoding), split="lines")
    assert answer.json()["count"] == 2
    assert bodies(running, encoding) == ["line one", "line two \u00f6\u00e4"]


def test_log_of_windows_in_utf_16_is_sent_by_the_command_line_too(running, tmp_path):
    path = tmp_path / "windows.log"
    path.write_bytes("line one\nline two \u00f6\u00e4\n".encode("utf-16"))
    done = running.cli("publish", "windows", "--file", str(path), "--wait")
    if done.returncode == 0:
        assert bodies(running, "windows") == ["line one", "line two \u00f6\u00e4"]
    else:  # refused in words, and nothing is kept of it
        assert b"is not text" in done.stderr
        assert bodies(running, "windows") == []


def test_latin_1_line_is_found_with_like_when_its_sender_says_what_it_is(running):
    text = "K\u00f6ln caf\u00e9 21\u00b0C"
    answer = post(running, "latin", text.encode("latin-1"), "text/plain; charset=ISO-8859-1")
    assert answer.status_code == 202
    wait_drained(running)
    sql = "SELECT body FROM messages WHERE topic = 'latin' AND body LIKE '%caf%'"
    assert [row["body"] for row in running.query(sql)] == [text]


def test_latin_1_line_that_does_not_say_so_is_kept_and_found_by_its_bytes(running):
    post(running, "raw", b"good 1\nK\xf6ln caf\xe9\ngood 3\n", split="lines")
    wait_drained(running)
    sql = "SELECT body FROM messages WHERE topic = 'raw' AND CAST(body AS TEXT) LIKE '%caf%'"
    assert [row["body"] for row in running.query(sql)] == [b"K\xf6ln caf\xe9"]


@pytest.mark.parametrize(
    "content_type",
    [
        "application/x-ndjson", "application/x-ndjson; charset=utf-8", "application/ndjson",
        "application/jsonl", "application/x-jsonlines", "application/json-lines",
        "application/x-json-stream", "application/x-jsonl", "application/jsonlines",
    ],
)  # fmt: skip
def test_ndjson_under_any_of_its_names_is_a_message_a_line(running, content_type):
    topic = "nd-" + content_type.replace("/", ".").partition(";")[0] + str(len(content_type))
    answer = post(running, topic, b'{"a":1}\n{"a":2}\n{"a":3}\n', content_type)
    assert answer.json()["count"] == 3
    assert bodies(running, topic) == ['{"a":1}', '{"a":2}', '{"a":3}']


def test_compressed_body_is_what_was_compressed(running):
    answer = running.client.post(
        "/v1/topics/zipped/messages",
        content=gzip.compress(b'{"a":1}\n'),
        headers={"Content-Encoding": "gzip"},
    )
    assert answer.status_code == 202, answer.text
    assert bodies(running, "zipped") == ['{"a":1}\n']


@pytest.mark.parametrize(
    "bad",
    [
        b'{"t":NaN}', b'{"t":Infinity}', b'{"t":1e400}', b'"\\ud83d"', b"[" * 2000,
        b'{"t":"caf\xe9"}',
    ],
)  # fmt: skip
def test_one_bad_record_costs_a_batch_nothing_but_itself(running, bad):
    topic = f"batch-{abs(hash(bad)) % 10**9}"
    content = b'{"t":1}\n' + bad + b'\n{"t":3}\n'
    answer = post(running, topic, content, "application/x-ndjson")
    assert answer.status_code == 400, "by default all or nothing"
    assert "line 2" in answer.json()["detail"]
    answer = post(running, topic, content, "application/x-ndjson", **{"on-bad": "dead-letter"})
    assert answer.status_code == 202, answer.text
    assert bodies(running, topic) == ['{"t":1}', '{"t":3}']
    (dead,) = running.query("SELECT * FROM dead_letters WHERE topic = ?", topic)
    content = dead["body"] if isinstance(dead["body"], bytes) else dead["body"].encode()
    assert content == bad
    assert json.loads(dead["meta"])["line"] == 2


@pytest.mark.parametrize(
    ("name", "topic"),
    [
        ("Orders", "orders"),
        ("home%2FKitchen%2Ftemp", "home.kitchen.temp"),
        ("home/kitchen/temp", "home.kitchen.temp"),
    ],
)
def test_topics_as_other_systems_write_them_are_mapped_on_request(running, name, topic):
    assert post(running, name, "21.5").status_code in (400, 404)
    answer = post(running, name, "21.5", map="topic")
    assert answer.status_code == 202, answer.text
    assert answer.json()["topic"] == topic
    assert "21.5" in bodies(running, topic)


def test_message_of_amqp_with_another_name_for_its_topic_is_kept_and_can_be_sent_again(running):
    with amqp(running) as link:
        channel = link.channel()
        channel.confirm_delivery()
        channel.basic_publish(
            base.EXCHANGE, "Home.Kitchen.Temp", b"21.5", pika.BasicProperties(), mandatory=True
        )
    sql = "SELECT seq FROM dead_letters WHERE topic = 'Home.Kitchen.Temp'"
    (row,) = wait_until(lambda: running.query(sql), "it is kept", 10)
    path = f"/v1/dead-letters/{row['seq']}/redrive"
    assert running.client.post(path, params={"topic": "home.kitchen"}).status_code == 202
    running.wait_rows(1, "home.kitchen")


# --- doors


def test_client_that_ends_its_sending_still_gets_its_answer(running):
    host, port = running.url.removeprefix("http://").split(":")
    head = f"Host: x\r\nAuthorization: Bearer {running.token}\r\nContent-Length: 5\r\n"
    for request in (
        f"POST /v1/topics/half/messages HTTP/1.1\r\n{head}\r\nhello",
        f"POST /v1/topics/half/messages HTTP/1.1\r\n{head}Prefer: wait=5\r\n\r\nhello",
        f"GET /v1/topics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {running.token}\r\n\r\n",
    ):
        with socket.create_connection((host, int(port)), 10) as link:
            link.sendall(request.encode())
            link.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda link=link: link.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 20"), (request, answer)
    assert bodies(running, "half") == ["hello", "hello"]


@pytest.mark.parametrize("user", ["hook", "", "any one"])
def test_sender_that_knows_only_user_and_password_gets_in_with_the_token(running, user):
    topic = f"basic{len(user)}"
    answer = httpx.post(
        f"{running.url}/v1/topics/{topic}/messages",
        content="hello", auth=(user, running.token), trust_env=False,
    )  # fmt: skip
    assert answer.status_code == 202, answer.text
    assert bodies(running, topic) == ["hello"]


def test_sender_that_looks_at_the_address_before_it_sends_finds_it(running):
    made = running.client.post("/v1/inboxes", json={"topic": "looked-at"}).json()
    assert httpx.head(made["address"], trust_env=False).status_code == 200
    asked = {"hub.mode": "subscribe", "hub.challenge": "1158201444", "hub.verify_token": "x"}
    answer = httpx.get(made["address"], params=asked, trust_env=False)
    assert (answer.status_code, answer.text) == (200, "1158201444")
    assert running.client.head("/v1/topics/never-seen/messages").status_code == 200


def test_address_of_all_ipv6_takes_ipv4_too(running):
    port = free_port()
    second = Process("api-both", {**running.env, "APPLIANCE_HTTP": f"[::]:{port}"}, running.folder)
    second.start()
    try:
        for host in ("127.0.0.1", "[::1]"):
            wait_until(lambda h=host: answers(f"http://{h}:{port}/healthz"), host, 20,
                       lambda: second.log)  # fmt: skip
    finally:
        second.stop()


def answers(url):
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


# --- reading


def test_negative_number_is_a_number_in_csv_and_a_formula_is_none(running):
    wanted = ["-3.5", "+4", "-0.001", "1e-5", "=1+1", "-10 C", "@SUM(1)"]
    post(running, "csv", "\n".join(wanted), split="lines")
    bodies(running, "csv")
    table = running.get("/v1/topics/csv/messages?format=csv&after=0")
    if table.status_code != 200:
        table = running.get("/v1/topics/csv/messages?format=csv")
    found = sorted(row["body"] for row in csv.DictReader(io.StringIO(table.text)))
    assert found == sorted(["-3.5", "+4", "-0.001", "1e-5", "'=1+1", "'-10 C", "'@SUM(1)"])


def test_time_as_seconds_or_milliseconds_since_1970_is_understood(running):
    post(running, "since", "hello")
    bodies(running, "since")

    def count(since):
        answer = running.get("/v1/topics/since/messages", params={"since": since})
        return answer.status_code, len(answer.json().get("messages", ()))

    hour = timedelta(hours=1)
    for moment, expected in ((datetime.now(UTC) - hour, 1), (datetime.now(UTC) + hour, 0)):
        seconds = moment.timestamp()
        assert count(str(int(seconds))) == (200, expected)
        assert count(str(int(seconds * 1000))) == (200, expected)
    # 30 November 2026 in milliseconds looks like a day of 1796.
    assert count("1796012812345") == (200, int(time.time() * 1000 > 1796012812345))
    assert count("17960101")[0] == 400
    assert count("1796-01-01T00:00:00Z")[0] == 400


def test_rows_deleted_with_sql_are_gone_and_retention_goes_by_what_is_left(running):
    wait_until(lambda: running.count("swept") == 10, "retention is at work", 120)
    assert running.count("kept") == 210
    wait_until(lambda: running.cli("verify").returncode == 0, "verify is content", 60)
    shown = {each["topic"]: each for each in running.get("/v1/topics").json()["topics"]}
    assert shown["kept"]["messages"] == 210
