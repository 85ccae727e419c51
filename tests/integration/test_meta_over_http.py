"""What came with a message is kept beside it: in the row, in dead letters, in every read."""

import csv
import io
import json
import sqlite3

import pika
import pytest
from load import amqp, wait_drained

from appliance.broker import base

pytestmark = pytest.mark.slow

GITHUB = {
    "X-GitHub-Event": "push",
    "X-GitHub-Delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
    "X-Hub-Signature-256": "sha256=757107ea0eb2509fc211221cce984b8a",
    "User-Agent": "GitHub-Hookshot/044aadd",
    "Content-Type": "application/json",
    "Cookie": "hunter2",
}


@pytest.fixture(scope="module")
def running(module_stack):
    return module_stack(workers=1)


def publish(running, topic, content, **options):
    answer = running.client.post(f"/v1/topics/{topic}/messages", content=content, **options)
    assert answer.status_code == 202, answer.text
    wait_drained(running)
    return answer.json()


def test_request_is_kept_beside_the_body_and_can_be_asked_for_by_sql(running):
    sent = publish(running, "github", b'{"ref":"main"}', headers=GITHUB)
    with sqlite3.connect(f"file:{running.database}?mode=ro", uri=True) as database:
        query = (
            "SELECT content_type, meta ->> '$.headers.x-github-event', meta FROM messages "
            "WHERE id = ?"
        )
        content_type, event, text = database.execute(query, (sent["id"],)).fetchone()
    assert (content_type, event) == ("application/json", "push")
    kept = json.loads(text)
    assert (kept["via"], kept["method"], kept["remote"]) == ("http", "POST", "127.0.0.1")
    assert kept["headers"]["x-hub-signature-256"] == GITHUB["X-Hub-Signature-256"]
    assert "hunter2" not in text
    assert running.token not in text


def test_every_read_shows_the_content_type_and_the_meta(running):
    headers = {"X-Event-Type": "order", "Content-Type": "text/csv"}
    sent = publish(running, "reads", b"a,b", headers=headers)
    path = "/v1/topics/reads/messages"
    one = running.client.get(f"/v1/messages/{sent['id']}").json()
    (page,) = running.client.get(path).json()["messages"]
    line = json.loads(running.client.get(path, params={"format": "ndjson"}).text)
    table = io.StringIO(running.client.get(path, params={"format": "csv"}).text)
    (cells,) = csv.DictReader(table)
    cells["meta"] = json.loads(cells["meta"])
    for shown in (one, page, line, cells):
        assert shown["content_type"] == "text/csv"
        assert shown["meta"]["headers"]["x-event-type"] == "order"
    body = running.client.get(f"/v1/messages/{sent['id']}/body")
    assert (body.content, body.headers["content-type"]) == (b"a,b", "text/csv")


def test_page_of_a_strangers_is_answered_in_a_sandbox(running):
    headers = {"Content-Type": "text/html"}
    sent = publish(running, "pages", b"<script>alert(1)</script>", headers=headers)
    body = running.client.get(f"/v1/messages/{sent['id']}/body")
    assert body.headers["content-type"].startswith("text/html")
    assert body.headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert body.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(("topic", "lines"), [("text", b"a\nb\n"), ("bytes", b"a\n\xff\n")])
def test_batch_gives_each_row_what_came_with_the_request(running, topic, lines):
    headers = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    publish(running, topic, lines, params={"split": "lines"}, headers=headers)
    rows = running.client.get(f"/v1/topics/{topic}/messages").json()["messages"]
    kept = headers | {"user-agent": running.client.headers["user-agent"]}
    assert [row["meta"]["headers"] for row in rows] == [kept] * 2


def test_plain_message_has_neither(running):
    sent = publish(running, "plain", b"x")
    shown = running.client.get(f"/v1/messages/{sent['id']}").json()
    assert (shown["content_type"], shown["meta"]) == (None, None)


def test_dead_letter_and_its_redrive_keep_what_came_with_the_message(running):
    with amqp(running) as link:
        properties = pika.BasicProperties(
            delivery_mode=2, content_type="text/csv", app_id="shop", headers={"kind": "new"}
        )
        link.channel().basic_publish(base.EXCHANGE, "NO-TOPIC", b"1,2", properties)
    wait_drained(running)
    (letter,) = running.client.get("/v1/dead-letters").json()["dead_letters"]
    kept = {"via": "amqp", "app_id": "shop", "headers": {"kind": "new"}}
    assert (letter["content_type"], letter["meta"]) == ("text/csv", kept)
    path = f"/v1/dead-letters/{letter['seq']}/redrive"
    sent = running.client.post(path, params={"topic": "redriven"}).json()
    wait_drained(running)
    row = running.client.get(f"/v1/messages/{sent['id']}").json()
    assert (row["content_type"], row["meta"]) == ("text/csv", kept)
