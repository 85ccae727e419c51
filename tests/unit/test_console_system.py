"""The console's system pages: for administrators, and complete without a script."""

import dataclasses
import json
import re

import pytest
from console_client import ConsoleClient

from appliance import config as configuration
from appliance.errors import RestartError
from appliance.operations.chore import Chore
from appliance.proofs import proof_book
from appliance.store.access_rows import Actor
from appliance.store.proving import BackupProof
from appliance.store.rows import Span
from appliance.supervision.process_logs import LogLine, ProcessLog
from appliance.supervision.state import ProcessState

SECRET = "a-secret-that-no-page-shows"
PROCESSES = [
    ProcessState("api", "RUNNING", 11, 3600.0, "pid 11"),
    ProcessState("worker:worker_0", "BACKOFF", None, None, "exited <too> quickly"),
    ProcessState("migrate", "EXITED", None, None, "ended"),
]
PAGES = ["", "/logs", "/checks", "/backups", "/settings", "/storage"]


LINES = [
    LogLine(
        "warning",
        None,
        json.dumps({"event": "disk <full>", "time": "2026-01-31T12:00:00Z", "free": 7}),
    ),
    LogLine("info", None, "{not json"),
]
FINDINGS = [
    {"check": "clock", "level": "error", "found": "1970", "advice": "set the clock"},
    {"check": "space", "level": "ok", "found": "much", "advice": ""},
]


@pytest.fixture
def client(tmp_path):
    config = configuration.load(
        {
            "APPLIANCE_DATA": str(tmp_path),
            "APPLIANCE_MIN_FREE_BYTES": "0",
            "APPLIANCE_BROKER_URL": f"amqp://x:{SECRET}@127.0.0.1:1/",
        }
    )
    restarted = []

    def restart(name):
        if name == "migrate":
            raise RestartError("migrate is not restarted: it runs once and ends")
        restarted.append(name)
        return True

    def log(process, _most, level):
        return ProcessLog(process, "file", [x for x in LINES if level in ("debug", x.level)])

    first = ConsoleClient(config)
    operations = dataclasses.replace(
        first.services.operations,
        doctor=Chore("doctor", lambda _: {"ok": False, "findings": FINDINGS}, config.run_folder),
        log=log,
        restart=restart,
    )
    first.close()
    client = ConsoleClient(config, processes=lambda: PROCESSES, operations=operations)
    client.restarted = restarted
    client.sign_in()
    yield client
    client.close()


def send(client, path, **fields):
    csrf = re.search(r'name="csrf" value="(\w+)"', client.get("/console/help").text)[1]
    return client.post(f"/console/system{path}", {"csrf": csrf, **fields})


def deeds(client):
    return [(each.action, each.target) for each in client.services.access.audit(Span(after=1), 100)]


@pytest.mark.parametrize("path", PAGES)
def test_pages_of_the_system_are_for_administrators(client, path):
    assert client.get(f"/console/system{path}").status_code == 200
    _, secret = client.services.tokens.create("reader", ["read"], Actor("test", ""))
    client.browser.delete_cookie("appliance_session")
    client.sign_in(secret)
    assert client.get(f"/console/system{path}").status_code == 403
    assert "/console/system" not in client.get("/console/").text


@pytest.mark.parametrize("path", ["/restart", "/checks", "/backups"])
def test_a_token_that_reads_changes_nothing_of_the_system(client, path):
    _, secret = client.services.tokens.create("reader", ["read"], Actor("test", ""))
    client.browser.delete_cookie("appliance_session")
    client.sign_in(secret)
    assert send(client, path, name="api", sure="true").status_code == 403
    assert client.restarted == []


def test_processes_have_their_state_in_words_and_only_those_that_run_can_be_restarted(client):
    page = client.get("/console/system").text
    assert "failed, and is tried again" in page
    assert "exited &lt;too&gt; quickly" in page
    assert page.count("Restart…") == 1


def test_a_restart_is_asked_for_twice_told_and_noted(client):
    question = send(client, "/restart", name="api")
    assert "Nothing is lost" in question.text
    assert client.restarted == []
    answer = send(client, "/restart", name="api", sure="true")
    assert answer.status_code == 303
    assert client.restarted == ["api"]
    assert "was told to end" in client.get(answer.headers["Location"]).text
    assert ("process-restart", "api") in deeds(client)


@pytest.mark.parametrize("name", ["", "nobody", "../api"])
def test_a_process_that_there_is_not_is_no_page(client, name):
    assert send(client, "/restart", name=name, sure="true").status_code == 404
    assert "was told to end" not in client.get("/console/system?told=<b>nobody").text


def test_a_process_that_runs_once_is_refused_in_words(client):
    answer = send(client, "/restart", name="migrate", sure="true")
    assert answer.status_code == 400
    assert "it runs once and ends" in answer.text


def test_a_log_is_readable_and_shown_as_text(client):
    page = client.get("/console/system/logs?process=api").text
    assert "12:00:00 WARNING disk &lt;full&gt; free=7" in page
    assert "{not json" in page
    page = client.get("/console/system/logs?process=api&level=warning").text
    assert "{not json" not in page
    assert client.get("/console/system/logs?level=loud").status_code == 400


def test_checks_run_in_the_background_and_their_outcome_is_on_the_page(client):
    assert "was not checked yet" in client.get("/console/system/checks").text
    assert send(client, "/checks", check="doctor").status_code == 303
    assert client.services.operations.doctor.wait(60)
    page = client.get("/console/system/checks").text
    assert "set the clock" in page
    assert send(client, "/checks", check="verify").status_code == 303
    assert client.services.operations.verify.wait(60)
    answer = client.get("/console/system/checks")
    assert "All is well" in answer.text
    assert "0 of 0 envelopes accounted for, none missing" in answer.text
    assert "Refresh" not in answer.headers
    assert "none missing" in client.get("/console/system").text
    assert ("verify", "database") in deeds(client)


def test_a_backup_is_made_listed_and_downloaded_from_the_page(client):
    assert "There is none yet" in client.get("/console/system/backups").text
    assert send(client, "/backups").status_code == 303
    assert client.services.operations.backups.making.wait(60)
    page = client.get("/console/system/backups").text
    name = re.search(r"/backups/(appliance-\w+\.db)", page)[1]
    copy = client.get(f"/console/system/backups/{name}")
    assert copy.data.startswith(b"SQLite format 3")
    assert "attachment" in copy.headers["Content-Disposition"]
    copy.close()
    assert deeds(client)[-2:] == [("backup-make", "database"), ("backup-download", name)]
    assert client.get("/console/system/backups/token").status_code == 404


def test_a_backup_that_failed_its_proof_and_one_that_is_proven_are_told_apart(client):
    config, desk = client.services.config, client.services.operations.backups
    backups = client.services.backup
    backups.make_folder()
    for name in ("appliance-20260102T030405Z.db", "appliance-20260102T030406Z.db"):
        backups.make(desk.folder / name, lambda _step, _share: True)
    newer, older = desk.list_backups()
    proof_book.enter(config, BackupProof(older.name), older.made_at)
    page = client.get("/console/system/backups").text
    assert (page.count("✓ proven"), page.count("! failed its proof")) == (1, 0)
    assert "Backup proven" in client.get("/console/").text
    proof_book.enter(config, BackupProof(newer.name, faults=["it is <torn>"]), newer.made_at)
    page = client.get("/console/system/backups").text
    assert (page.count("✓ proven"), page.count("! failed its proof")) == (1, 1)
    assert "failed. it is &lt;torn&gt;." in page


def test_no_page_of_the_system_shows_a_secret(client):
    for path in PAGES:
        assert SECRET not in client.get(f"/console/system{path}").text
    assert "********" in client.get("/console/system/settings").text
