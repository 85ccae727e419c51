"""Tokens against the real processes: rights, revocation, rates, guesses, the audit trail."""

import json
import socket
import sqlite3
import subprocess
import sys
import threading
import time

import httpx
import pytest
from harness import wait_until

#: Seconds in which a revoked token must be refused on every connection.
REVOKED_SECONDS = 1.0


@pytest.fixture(scope="module")
def one(module_stack):
    return module_stack()


def create(stack, name, *rights, **members):
    wish = {"name": name, "rights": list(rights), **members}
    answer = stack.client.post("/v1/tokens", json=wish)
    assert answer.status_code == 201, answer.text
    return answer.json()["token"]


def client_of(stack, token):
    return httpx.Client(
        base_url=stack.url,
        headers={"Authorization": f"Bearer {token}"},
        timeout=30,
        trust_env=False,
    )


def test_a_token_may_do_what_its_rights_and_topics_say(one):
    token = create(one, "rights", "publish", "read", topics=["r.*"])
    with client_of(one, token) as client:
        assert client.post("/v1/topics/r.one/messages?x", content="").status_code == 400
        answer = client.post(
            "/v1/topics/r.one/messages", content="a", headers={"Prefer": "wait=20"}
        )
        assert answer.status_code == 201
        assert client.get("/v1/topics/r.one/messages").json()["messages"][0]["body"] == "a"
        for method, path in [
            ("POST", "/v1/topics/other/messages"),
            ("GET", "/v1/topics/other/messages"),
            ("GET", "/v1/backup"),
            ("GET", "/v1/tokens"),
            ("POST", "/v1/tokens"),
            ("GET", "/v1/audit"),
            ("DELETE", "/v1/dead-letters/1"),
        ]:
            assert client.request(method, path).status_code == 403, path
    only_publish = create(one, "only-publish", "publish")
    with client_of(one, only_publish) as client:
        assert client.post("/v1/topics/other/messages", content="a").status_code == 202
        assert client.get("/v1/topics").status_code == 403


class Sender(threading.Thread):
    """Posts over one kept-alive connection, the same bytes each time, until it is refused."""

    def __init__(self, stack, token, topic):
        super().__init__()
        host, port = stack.url.removeprefix("http://").split(":")
        self.request = (
            f"POST /v1/topics/{topic}/messages HTTP/1.1\r\nHost: {host}\r\n"
            f"Authorization: Bearer {token}\r\nContent-Length: 1\r\n\r\nx"
        ).encode()
        self.link = socket.create_connection((host, int(port)), 30)
        self.accepted, self.refused_at, self.status = 0, None, 0

    def run(self):
        while True:
            self.link.sendall(self.request)
            answer = self.link.recv(65536)
            self.status = int(answer[9:12])
            if self.status != 202:
                self.refused_at = time.monotonic()
                return
            self.accepted += 1


def test_a_revoked_token_is_refused_within_a_second_on_open_connections_under_load(one):
    token = create(one, "load", "publish")
    senders = [Sender(one, token, f"load{n}") for n in range(8)]
    for sender in senders:
        sender.start()
    wait_until(lambda: all(each.accepted > 20 for each in senders), "all of them send")
    begin = time.monotonic()
    assert one.client.delete("/v1/tokens/load").status_code == 204
    answered = time.monotonic()
    for sender in senders:
        sender.join(20)
        sender.link.close()
        assert sender.status == 401
        assert sender.refused_at - begin < REVOKED_SECONDS + (answered - begin)


def test_a_token_that_is_revoked_by_sql_is_refused_within_a_second(one):
    token = create(one, "by-sql", "read")
    with client_of(one, token) as client:
        assert client.get("/v1/topics").status_code == 200
        link = sqlite3.connect(one.database, timeout=10)
        link.execute("DELETE FROM tokens WHERE name = 'by-sql'")
        link.commit()
        link.close()
        time.sleep(REVOKED_SECONDS)
        assert client.get("/v1/topics").status_code == 401


def test_a_body_that_is_still_coming_when_its_token_is_revoked_is_refused(one):
    token = create(one, "slow", "publish")
    sender = Sender(one, token, "slow")
    head, _, body = sender.request.replace(b"Length: 1", b"Length: 2").partition(b"\r\n\r\n")
    sender.link.sendall(head + b"\r\n\r\n" + body)
    time.sleep(0.3)
    assert one.client.delete("/v1/tokens/slow").status_code == 204
    sender.link.sendall(b"y")
    assert sender.link.recv(65536).startswith(b"HTTP/1.1 401 ")
    sender.link.close()


def test_an_export_ends_when_its_token_is_revoked(one):
    lines = b"\n".join(b"%0999d" % n for n in range(8000))
    answer = one.publish("export", lines, {"split": "lines"}, Prefer="wait=60")
    assert answer.status_code == 201
    token = create(one, "export", "read", topics=["export"])
    with client_of(one, token) as client:
        path = "/v1/topics/export/messages?format=ndjson"
        with client.stream("GET", path) as export:
            pieces = export.iter_raw(1000)
            next(pieces)
            assert one.client.delete("/v1/tokens/export").status_code == 204
            with pytest.raises(httpx.RemoteProtocolError):
                list(pieces)
        assert client.get("/v1/topics").status_code == 401


def test_a_token_ends_by_itself(one):
    token = create(one, "short-lived", "read", expires="2s")
    with client_of(one, token) as client:
        assert client.get("/v1/topics").status_code == 200
        wait_until(lambda: client.get("/v1/topics").status_code == 401, "it ends", 10)


def test_curl_sends_a_token_as_a_password(one):
    token = create(one, "curl", "publish")

    def curl(password):
        command = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-d", "hello"]
        command += ["-u", f"anyone:{password}", f"{one.url}/v1/topics/curl/messages"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert curl(token) == "202"
    assert curl(one.token) == "202"
    assert curl("wrong") == "401"


def test_a_burst_over_the_rate_is_answered_429_with_the_time_to_wait(one):
    token = create(one, "burst", "publish", rate="10/m")
    with client_of(one, token) as client:
        answers = [client.post("/v1/topics/burst/messages", content="x") for _ in range(15)]
    assert [a.status_code for a in answers] == [202] * 10 + [429] * 5
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 6
    assert answers[-1].json()["type"].endswith(":rate-limited")
    assert one.publish("burst", "of the administrator").status_code == 202


def test_neither_the_database_nor_the_log_has_a_token(one):
    token = create(one, "kept-nowhere", "publish", "read")
    with client_of(one, token) as client:
        client.post("/v1/topics/kept/messages", content="x", headers={"Prefer": "wait=20"})
        client.get("/v1/topics")
    for path in (one.database, one.database.with_name("appliance.db-wal")):
        data = path.read_bytes()
        assert token.encode() not in data
        assert token.removeprefix("qa_").encode() not in data
    assert b"kept-nowhere" in one.database.with_name("appliance.db-wal").read_bytes() + (
        one.database.read_bytes()
    )
    assert token not in one.logs(10_000)


def test_the_last_use_is_noted_within_seconds(one):
    token = create(one, "used", "publish")

    def last_used_at():
        tokens = {t["name"]: t for t in one.get("/v1/tokens").json()["tokens"]}
        return tokens["used"]["last_used_at"]

    assert last_used_at() is None
    with client_of(one, token) as client:
        client.post("/v1/topics/used/messages", content="x")
        first = wait_until(last_used_at, "a use is noted", 15)
        # The same bytes again: a head that was remembered.
        wait_until(
            lambda: (
                client.post("/v1/topics/used/messages", content="x") and last_used_at() != first
            ),
            "a later use is noted",
            15,
        )


def test_the_commands_make_list_and_revoke_tokens_and_show_the_trail(one):
    env = one.env | {"APPLIANCE_URL": one.url}
    made = one.cli(
        "token", "create", "by-hand", "--right", "read", "--topic", "a.*", "--rate", "9/m", env=env
    )
    token = made.stdout.decode().strip()
    assert token.startswith("qa_")
    assert b"by-hand: read for a.*; until it is revoked. It is not shown again." in made.stderr
    with client_of(one, token) as client:
        assert client.get("/v1/topics").json()["topics"] == []
    listed = one.cli("token", "list", env=env).stdout.decode()
    assert "by-hand" in listed
    assert token not in listed
    rows = json.loads(one.cli("token", "list", "--json", env=env).stdout)["tokens"]
    assert {row["name"]: row["rate"] for row in rows}["by-hand"] == "9/m"
    again = one.cli("token", "create", "by-hand", "--right", "read", env=env)
    assert (again.returncode, again.stdout) == (1, b"")
    assert b"by-hand already" in again.stderr
    assert one.cli("token", "revoke", "by-hand", env=env).returncode == 0
    assert one.cli("token", "revoke", "by-hand", env=env).returncode == 1
    trail = one.cli("audit", "-n", "2", env=env).stdout.decode().splitlines()
    assert trail[0].endswith("administrator  127.0.0.1  token-revoke  by-hand")
    assert "token-create  by-hand (read for a.*)" in trail[1]
    entry = json.loads(one.cli("audit", "--json", env=env).stdout.splitlines()[0])
    assert (entry["action"], entry["target"]) == ("token-revoke", "by-hand")
    printed = one.cli("token", env=env).stdout.decode().strip()
    assert printed == one.token


def test_wrong_tokens_are_slowed_counted_and_logged_and_the_right_one_is_served(stack):
    own = stack()
    begin = time.monotonic()
    tried = 0
    with client_of(own, "qa_wrong") as wrong:
        statuses = []
        while time.monotonic() - begin < 12:
            method = "POST" if tried % 2 else "GET"
            answer = wrong.request(method, "/v1/topics/t/messages", content="x" * (tried % 2))
            statuses.append(answer.status_code)
            tried += 1
            assert own.get("/v1/topics").status_code == 200  # from the same address
    assert set(statuses) == {401}
    assert 20 < tried < 45  # one second each, after the first twenty
    refusals = own.get("/v1/status").json()["refusals"]
    assert refusals["unauthorized"] == tried
    assert refusals["slowed"] > 3
    wait_until(lambda: "requests refused" in own.api.log, "the refusals are logged")
    lines = [json.loads(x) for x in own.api.log.splitlines() if '"requests refused"' in x]
    assert len(lines) == 1
    assert lines[0]["address"] == "127.0.0.1"
    assert lines[0]["reasons"]["unauthorized"] > 10
    assert "qa_wrong" not in own.api.log


def test_a_folder_of_an_earlier_schema_gets_tokens_and_keeps_its_rows(stack):
    """Before the start, the folder's database is brought back to the schema that people have."""
    own = stack(start=False, own=False)
    own.data.mkdir(parents=True, exist_ok=True)
    make = """
import sqlite_utils, sys
from pathlib import Path
from appliance.store.sqlite import migrations
earlier = type(migrations._migrations)("appliance")
for known in migrations._migrations.pending(sqlite_utils.Database(memory=True))[:3]:
    earlier()(known.fn)
migrations._migrations, migrations._count = earlier, lambda: 3
path = Path(sys.argv[1])
migrations.migrate(path)
from appliance.store.sqlite.database import connect
link = connect(path, readonly=False)
message, time = "01a1fbb5-3c6c-7000-9b39-123500000000", "2026-01-02T03:04:05.678Z"
link.execute("INSERT INTO messages VALUES (1, ?, 'old', 'kept', ?)", (message, time))
link.execute("INSERT INTO topics VALUES ('old', 1, 4, ?, ?)", (time, time))
"""
    subprocess.run([sys.executable, "-c", make, own.database], check=True, timeout=60)
    own.start()
    token = create(own, "after", "read", topics=["old"])
    with client_of(own, token) as client:
        (message,) = client.get("/v1/topics/old/messages").json()["messages"]
    assert message["body"] == "kept"
    assert own.cli("verify").returncode == 0
