"""`appliance explore`: the real Datasette on a real database, beside a worker's writer."""

import signal
import socket
import subprocess
import sys

import httpx
import pytest
from api_alone import ApiAlone
from harness import APPLIANCE, free_port, wait_until
from store_contents import letter, one

from appliance.cli.exploring import metadata
from appliance.model.timestamps import now
from appliance.store.access_rows import Actor, Deed, InboxRow, TokenRow
from appliance.store.sqlite.migrations import new_database

SECRET = "the-secret-with-which-senders-sign"
BY = Actor("a-name-in-the-audit-trail", "192.0.2.1")
DENIED = [
    "audit", "endpoint_secrets", "endpoints", "inbox_secrets", "inbox_signing_secrets", "inboxes",
    "sessions", "tokens",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = ApiAlone(tmp_path_factory.mktemp("explored"))
    made.fill(*(one(b'{"n":%d}' % n, "readings") for n in range(20)), letter(b"dead"))
    access, deed = made.store.access, Deed(BY, "token-create", "till")
    token = TokenRow("till", ("read",), ("*",), None, now(), None, None)
    access.create_token(token, b"\1" * 32, deed)
    inbox = InboxRow("stripe", "payments", "stripe", {}, now(), None, 1, ())
    access.create_inbox(inbox, b"\2" * 32, [SECRET], deed)
    yield made
    made.close()


@pytest.fixture(scope="module")
def explore(folder):
    """A signed-in browser at a running `appliance explore`."""
    port = free_port()
    running = subprocess.Popen(
        [APPLIANCE, "explore", "--port", str(port)], env=folder.env, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        link = running.stdout.readline().strip()
        assert link.startswith(f"http://127.0.0.1:{port}/-/auth-token?token="), (
            running.stderr.read()
        )
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:

            def answers():
                try:
                    return client.get("/").status_code
                except httpx.TransportError:
                    return None

            wait_until(answers, "it answers", 60)
            client.stranger = client.get("/appliance/messages.json").status_code
            assert client.get(link).status_code == 302
            client.link = link
            yield client
    finally:
        running.send_signal(signal.SIGTERM)
        try:
            running.communicate(timeout=20)
        finally:
            running.kill()


def ask(client, sql, **parameters):
    answer = client.get("/appliance.json", params={"sql": sql, "_shape": "array", **parameters})
    return answer.status_code, answer.json()


def test_nobody_is_let_in_without_the_link_and_it_works_once(explore):
    assert explore.stranger == 403
    with httpx.Client(timeout=60) as other:
        assert other.get(explore.link).status_code == 403


def test_messages_are_shown_newest_first_with_facets(explore, folder):
    page = explore.get("/appliance/messages").text
    assert "Order of storing; never used again" in page
    assert "content_type" in page
    rows = explore.get("/appliance/messages.json?_shape=array").json()
    assert [row["body"] for row in rows][:2] == ['{"n":19}', '{"n":18}']


def test_rows_that_are_stored_meanwhile_are_seen(explore, folder):
    folder.fill(one(b"later", "later"))
    status, rows = ask(explore, "select body from messages where topic = 'later'")
    assert (status, rows) == (200, [{"body": "later"}])


def test_tables_of_secrets_are_hidden_and_denied(explore):
    page = explore.get("/appliance").text
    for table in DENIED:
        assert f'"/appliance/{table}"' not in page, table
        assert explore.get(f"/appliance/{table}").status_code == 403, table
        assert explore.get(f"/appliance/{table}.json").status_code == 403, table


@pytest.mark.parametrize(
    "sql",
    [
        *(f"select * from {table}" for table in DENIED),
        "select secret || '' as x from inbox_signing_secrets",
        "select x.secret from (select secret from inbox_signing_secrets) as x",
        "with s as (select * from main.inbox_signing_secrets) select max(secret) from s",
        "select group_concat(who) from audit",
        "select hex(digest) from tokens union select secret from inbox_signing_secrets",
        "select (select secret from inbox_signing_secrets) from messages limit 1",
        "select * from pragma_table_list, inbox_signing_secrets",
    ],
)
def test_sql_reads_nothing_of_secrets(explore, sql):
    _, rows = ask(explore, sql)
    text = str(rows)
    for secret in (SECRET, "01010101", "till", "a-name-in-the-audit-trail", "192.0.2.1"):
        assert secret not in text


@pytest.mark.parametrize(
    "sql",
    [
        "delete from messages", "insert into topics values ('x', 1, 1, '', '')",
        "create table mine (x)", "pragma query_only = off", "pragma journal_mode = delete",
        "attach database '/etc/passwd' as other", "select load_extension('x')",
        "with x as (select 1) delete from messages", "drop table messages",
        "vacuum into 'FILE'",
    ],
)  # fmt: skip
def test_sql_changes_nothing(explore, folder, tmp_path, sql):
    stolen = tmp_path / "stolen.db"
    before = folder.query("SELECT count(*), max(seq) FROM messages")[0]
    status, _ = ask(explore, sql.replace("FILE", str(stolen)))
    assert status == 400
    assert tuple(folder.query("SELECT count(*), max(seq) FROM messages")[0]) == tuple(before)
    assert not stolen.exists()


@pytest.mark.parametrize("name", metadata()["databases"]["appliance"]["queries"])
def test_a_query_that_is_offered_works(explore, name):
    parameters = {"topic": "readings", "path": "$.n"}
    answer = explore.get(f"/appliance/{name}.json", params={"_shape": "array", **parameters})
    assert answer.status_code == 200, answer.text
    assert answer.json()


def test_the_file_itself_can_not_be_downloaded(explore):
    assert explore.get("/appliance.db").status_code in (403, 404)


def test_every_table_is_shown_hidden_or_denied_on_purpose():
    tables = {
        row[0]
        for row in new_database().execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    }
    named = metadata()["databases"]["appliance"]["tables"]
    assert tables == set(named)
    assert sorted(name for name, table in named.items() if table.get("allow") is False) == DENIED


def test_a_host_without_datasette_is_told_how_to_install_it(folder, tmp_path):
    (tmp_path / "datasette.py").write_text("raise ImportError('not here')")
    done = subprocess.run(
        [sys.executable, "-m", "appliance", "explore"], capture_output=True, check=False,
        env={**folder.env, "PYTHONPATH": str(tmp_path)}, timeout=60, cwd="/",
    )  # fmt: skip
    assert done.returncode == 1
    assert b"pip install 'queue-appliance[explore]'" in done.stderr


def test_a_port_that_is_taken_is_told(folder):
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        done = folder.cli("explore", "--port", str(port))
    assert done.returncode == 78
    assert b"--port: can't listen on" in done.stderr
