"""The console's logs: bounded, followed by line, hostile text as text, for administrators only."""

import dataclasses
import json
import re

import pytest
from console_client import ConsoleClient

from appliance import config as configuration
from appliance.store.access_rows import Actor
from appliance.supervision.process_logs import LogLine, ProcessLog
from appliance.supervision.state import ProcessState

PROCESSES = [ProcessState("api", "RUNNING", 11, 3600.0, "pid 11")]
LINES = "/console/system/logs/lines?process=api"
HOSTILE = "</li></ol><script>alert(1)</script>\u202e\x1b[31m\ud83d"


@pytest.fixture
def client(tmp_path):
    config = configuration.load({"APPLIANCE_DATA": str(tmp_path), "APPLIANCE_MIN_FREE_BYTES": "0"})
    said = []

    def log(process, most, level):
        assert most == 500
        if process != "api":
            return None
        lines = [line for line in said if level in ("debug", line.level)]
        return ProcessLog(process, "file", lines, None if lines else "nothing was logged yet")

    first = ConsoleClient(config)
    operations = dataclasses.replace(first.services.operations, log=log)
    first.close()
    client = ConsoleClient(config, processes=lambda: PROCESSES, operations=operations)
    client.said = said
    client.sign_in()
    yield client
    client.close()


def lines(client, query=""):
    return json.loads(client.get(LINES + query).text)


def test_a_log_is_followed_by_what_is_new(client):
    client.said += [LogLine("info", None, "one"), LogLine("error", None, "two")]
    first = client.get(LINES)
    assert [(each["level"], each["style"], each["text"]) for each in first.json] == [
        ("info", "", "one"),
        ("error", "bad", "two"),
    ]
    tag = first.headers["ETag"]
    unchanged = client.get(LINES, headers={"If-None-Match": tag})
    assert (unchanged.status_code, unchanged.data) == (304, b"")
    client.said.append(LogLine("info", None, "three"))
    later = client.get(LINES, headers={"If-None-Match": tag})
    assert later.status_code == 200
    assert later.json[:2] == first.json
    assert lines(client, "&level=error") == first.json[1:]


def test_a_line_keeps_its_name_while_the_log_moves_on_and_no_two_share_one(client):
    client.said += [LogLine("info", None, text) for text in "abab"]
    before = [each["name"] for each in lines(client)]
    assert len(set(before)) == 4
    page = client.get("/console/system/logs?process=api").text
    assert re.findall(r'<li id="([^"]+)"', page) == before
    client.said.append(LogLine("info", None, "c"))
    assert [each["name"] for each in lines(client)][:4] == before


def test_hostile_text_in_a_log_is_text(client):
    event = json.dumps({"event": HOSTILE, "time": "2026-01-31T12:00:00Z", "x": HOSTILE})
    client.said += [LogLine("warning", None, HOSTILE), LogLine("info", None, event)]
    page = client.get("/console/system/logs?process=api")
    assert "<script>alert" not in page.text
    assert page.text.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 2
    answer = client.get(LINES)
    assert answer.content_type == "application/json"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "script>alert(1)" in answer.json[0]["text"]


def test_a_log_can_be_followed_without_scripts(client):
    client.said.append(LogLine("info", None, "one"))
    page = client.get("/console/system/logs?process=api")
    assert "Refresh" not in page.headers
    assert ">Follow</a></noscript>" in page.text
    page = client.get("/console/system/logs?process=api&follow=on")
    assert page.headers["Refresh"] == "2"
    assert ">Stop following</a></noscript>" in page.text


def test_logs_are_for_administrators_only(client):
    assert client.get("/console/system/logs/lines?process=nobody").status_code == 404
    assert client.get("/console/system/logs/lines?process=api&level=loud").status_code == 400
    _, secret = client.services.tokens.create("reader", ["read", "publish"], Actor("test", ""))
    client.browser.delete_cookie("appliance_session")
    assert client.get(LINES).status_code == 303
    client.sign_in(secret)
    assert client.get(LINES).status_code == 403
