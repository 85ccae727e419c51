"""What administrators ask of the machine over HTTP: checks, backups, settings, logs, letters."""

import dataclasses
import json
import threading

import pytest
import ready_made
from flask_app import AWAY, services_of
from harness import wait_until
from store_contents import letter

from appliance import config as configuration
from appliance.api.app import create_app
from appliance.api.http import problems
from appliance.auth.principal import ADMINISTRATOR
from appliance.config import Address, settings
from appliance.errors import BackupError, BrokerError, RefusedError, RestartError
from appliance.model.doors import DOORS
from appliance.operations.chore import Chore
from appliance.redrive import Redriver
from appliance.store import open_store
from appliance.supervision.process_logs import LogLine, ProcessLog

SECRET = "a-secret-of-the-administrator"


@pytest.fixture
def config(tmp_path):
    return configuration.load(
        {
            "APPLIANCE_DATA": str(tmp_path),
            "APPLIANCE_MIN_FREE_BYTES": "0",
            "APPLIANCE_TOKEN": SECRET,
            "APPLIANCE_RETENTION": "*: age=7d",
        }
    )


@pytest.fixture
def store(config):
    store = open_store(config)
    ready_made.migrate(store.path)
    yield store
    store.reader.close()


@pytest.fixture
def services(config, store):
    services = services_of(config)
    yield services
    services.reader.close()


def asking(services):
    client = create_app(services).test_client()

    def ask(method, path, asked=None):
        body = asked if isinstance(asked, bytes) or asked is None else json.dumps(asked)
        return client.open(
            path, method=method, data=body, environ_overrides={"appliance.principal": ADMINISTRATOR}
        )

    return ask


@pytest.fixture
def ask(services):
    return asking(services)


def deeds(ask):
    return [(e["action"], e["target"]) for e in ask("GET", "/v1/audit?after=0").json["audit"]]


def with_operations(services, **changes):
    import dataclasses

    return dataclasses.replace(
        services, operations=dataclasses.replace(services.operations, **changes)
    )


def test_the_doctor_says_over_http_what_it_says_on_the_command_line(ask, config, store):
    from appliance.doctor.checks import examine

    answer = ask("GET", "/v1/doctor")
    assert answer.status_code == 200
    assert [each["check"] for each in answer.json["findings"]] == [
        each.check for each in examine(config, store)
    ]
    assert answer.json["ok"] == all(e["level"] != "error" for e in answer.json["findings"])
    assert ask("HEAD", "/v1/doctor").status_code == 200
    assert ask("GET", "/v1/doctor?x=1").status_code == 400


class WatchedChore(Chore):
    """Notes of each request whether it began the work, or found it under way."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.began = []

    def begin(self, by):
        begun = super().begin(by)
        self.began.append(begun)
        return begun


def test_requests_for_the_doctor_share_its_checks_and_only_some_wait(services):
    go_on, looked = threading.Event(), []

    def check(_report):
        looked.append(1)
        assert go_on.wait(60)
        return {"ok": True, "findings": []}

    chore = WatchedChore("doctor", check, services.config.run_folder)
    ask = asking(with_operations(services, doctor=chore))
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(ask("GET", "/v1/doctor"))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(answers) == 1, "the third one is refused")
    assert (answers[0].status_code, answers[0].json["type"].rpartition(":")[2]) == (503, "busy")
    assert answers[0].headers["Retry-After"] == str(problems.RETRY_BUSY_SECONDS)
    # A request that has its place, but has not asked yet, would begin checks of its own.
    wait_until(lambda: len(chore.began) == 2, "one began the checks and one found them under way")
    go_on.set()
    for thread in threads:
        thread.join(60)
    assert [answer.status_code for answer in answers] == [503, 200, 200]
    assert sorted(chore.began) == [False, True]
    assert looked == [1]


def test_a_verification_runs_in_the_background_and_is_kept(ask, services, config):
    assert ask("GET", "/v1/verify").json == {"running": None, "last": None}
    answer = ask("POST", "/v1/verify")
    assert (answer.status_code, answer.json["begun"]) == (202, True)
    assert answer.headers["Location"] == "/v1/verify"
    assert services.operations.verify.wait(60)
    last = ask("GET", "/v1/verify").json["last"]
    assert last["result"]["ok"]
    assert last["result"]["integrity"]["check"] == "quick_check"
    assert last["result"]["queue"] == {
        "depth": None, "workers": None, "not_stored": None, "reason": "away",
    }  # fmt: skip
    assert last["by"] == "administrator"
    assert deeds(ask) == [("verify", "database")]
    after_a_restart = services_of(config)
    assert asking(after_a_restart)("GET", "/v1/verify").json["last"] == last
    after_a_restart.reader.close()


def test_a_verification_finds_over_http_what_is_wrong(ask, services, store):
    writer = store.open_writer()
    writer.store([letter(b"x", "t")])
    writer.close()
    from sqlite3 import connect

    link = connect(services.config.data / "appliance.db")
    link.execute("DROP INDEX messages_topic")
    link.close()
    ask("POST", "/v1/verify")
    assert services.operations.verify.wait(60)
    result = ask("GET", "/v1/verify").json["last"]["result"]
    assert not result["ok"]
    assert any("messages_topic" in problem for problem in result["problems"])


def test_a_backup_is_made_listed_and_downloaded(ask, services):
    assert ask("GET", "/v1/backups").json["backups"] == []
    made = ask("POST", "/v1/backups")
    assert made.status_code == 201
    (listed,) = ask("GET", "/v1/backups").json["backups"]
    assert (listed["name"], listed["bytes"]) == (made.json["name"], made.json["bytes"])
    assert (listed["scheduled"], listed["checked"]) == (False, True)
    copy = ask("GET", made.headers["Location"])
    assert copy.data.startswith(b"SQLite format 3")
    assert len(copy.data) == listed["bytes"] == int(copy.headers["Content-Length"])
    copy.close()
    head = ask("HEAD", made.headers["Location"])
    head.close()
    assert head.headers["Content-Length"] == str(listed["bytes"])
    assert deeds(ask) == [("backup-make", "database"), ("backup-download", listed["name"])]


@pytest.mark.parametrize(
    "name",
    ["..%2ftoken", "token", "appliance.db", "appliance-20260101T000000Z.db", "%00", ".", "x" * 300],
)
def test_a_file_that_is_no_backup_is_not_sent(ask, services, name):
    services.backup.make_folder()
    (services.backup.folder / "token").write_text(SECRET)
    answer = ask("GET", f"/v1/backups/{name}")
    assert answer.status_code == 404
    assert SECRET not in answer.text


def test_a_backup_that_fails_is_a_problem_and_its_trouble_is_in_the_list(ask, config):
    (config.data / "appliance.db").unlink()
    assert ask("POST", "/v1/backups").status_code == 503
    making = ask("GET", "/v1/backups").json["making"]
    assert making["running"] is None
    assert making["last"]["error"] == BackupError().public


def test_doors_are_listed_with_where_they_listen_and_their_promises(ask, config):
    doors = ask("GET", "/v1/doors").json["doors"]
    assert [door["name"] for door in doors] == [door.name for door in DOORS]
    where = {door["name"]: door["where"] for door in doors}
    http = str(config.http)
    amqp = str(config.amqp)
    assert where == {"http": http, "inbox": http, "amqp": amqp, "drain": amqp, "mqtt": None}
    assert {door["name"]: door["reach"] for door in doors} == {
        "http": "machine", "inbox": "machine", "amqp": "machine", "drain": "machine", "mqtt": None,
    }  # fmt: skip
    assert [door["lost"] for door in doors] == [door.lost for door in DOORS]


def test_door_is_open_if_a_sender_could_use_it_now(ask, services):
    def is_open():
        return {door["name"]: door["open"] for door in ask("GET", "/v1/doors").json["doors"]}

    shut = {"http": True, "inbox": False, "amqp": False, "drain": False, "mqtt": False}
    assert is_open() == shut
    assert ask("POST", "/v1/inboxes", {"topic": "t"}).status_code == 201
    assert is_open() == shut | {"inbox": True}


def test_mqtt_door_is_where_it_is_set_and_open_while_the_broker_takes_messages(config, store):
    door = dataclasses.replace(config, mqtt=Address("0.0.0.0", 1883))
    for accepting in (True, False):
        services = services_of(door, lambda a=accepting: dataclasses.replace(AWAY, accepting=a))
        doors = {d["name"]: d for d in asking(services)("GET", "/v1/doors").json["doors"]}
        assert (doors["mqtt"]["where"], doors["mqtt"]["reach"]) == ("0.0.0.0:1883", "network")
        assert doors["mqtt"]["open"] is accepting
        services.reader.close()


def test_door_of_a_broker_of_your_own_has_no_address(config, store):
    outside = dataclasses.replace(config, broker_url="amqp://u:p@broker.example/")
    there = dataclasses.replace(outside, http=Address("0.0.0.0", 8080))
    accepting = dataclasses.replace(AWAY, accepting=True)
    services = services_of(there, lambda: accepting)
    doors = {d["name"]: d for d in asking(services)("GET", "/v1/doors").json["doors"]}
    assert (doors["amqp"]["where"], doors["amqp"]["reach"]) == (None, None)
    assert doors["amqp"]["open"]
    assert doors["http"]["reach"] == "network"
    services.reader.close()


def test_settings_are_shown_with_their_source_and_without_a_secret(ask, config):
    answer = ask("GET", "/v1/settings")
    rows = {row["name"]: row for row in answer.json["settings"]}
    assert list(rows) == [setting.name for setting in settings()]
    assert SECRET not in answer.text
    assert (rows["APPLIANCE_TOKEN"]["value"], rows["APPLIANCE_TOKEN"]["secret"]) == (
        "********",
        True,
    )
    retention = rows["APPLIANCE_RETENTION"]
    assert (retention["text"], retention["source"]) == ("*: age=7d", "environment")
    assert rows["APPLIANCE_BROKER_URL"]["value"] == ""
    assert rows["APPLIANCE_MAX_MESSAGE_BYTES"]["value"] == str(2**20)
    assert rows["APPLIANCE_MAX_MESSAGE_BYTES"]["default"] == "1MiB"
    assert all(row["help"] for row in rows.values())


def test_a_log_is_asked_for_by_process_lines_and_level(services):
    asked = []

    def log(process, lines, level):
        asked.append((process, lines, level))
        found = ProcessLog(process, "file", [LogLine("info", None, "a \0 line")])
        return found if process == "api" else None

    ask = asking(with_operations(services, log=log))
    answer = ask("GET", "/v1/logs/api?lines=7&level=warning")
    assert answer.json == {
        "process": "api",
        "source": "file",
        "lines": [{"level": "info", "time": None, "text": "a \0 line"}],
        "note": None,
    }
    assert ask("GET", "/v1/logs/nobody").status_code == 404
    assert asked == [("api", 7, "warning"), ("nobody", 100, "debug")]
    for bad in ("lines=0", "lines=1001", "lines=x", "lines=%D9%A1", "level=loud", "x=1"):
        assert ask("GET", f"/v1/logs/api?{bad}").status_code == 400


def test_a_restart_is_answered_and_noted(services):
    def restart(name):
        if name == "migrate":
            raise RestartError("it runs once")
        return name == "api"

    ask = asking(with_operations(services, restart=restart))
    assert ask("POST", "/v1/processes/api/restart").json["status"] == "restarting"
    assert ask("POST", "/v1/processes/nobody/restart").status_code == 404
    refused = ask("POST", "/v1/processes/migrate/restart")
    assert (refused.status_code, refused.json["detail"]) == (409, "it runs once")
    assert deeds(ask) == [("process-restart", "api")]


# --- dead letters, many at once


@pytest.fixture
def letters(store):
    writer = store.open_writer()
    writer.store([letter(b"%d" % n, "t") for n in range(5)])
    writer.close()


def test_letters_are_sent_again_by_name_with_a_result_for_each(ask, letters):
    answer = ask("POST", "/v1/dead-letters/redrive", {"ids": [1, "3", 99, "x"], "topic": "again"})
    results = answer.json["results"]
    assert [(r["letter"], r["outcome"]) for r in results] == [
        ("1", "queued"), ("3", "queued"), ("99", "gone"), ("x", "failed"),
    ]  # fmt: skip
    assert (answer.json["queued"], answer.json["next"]) == (2, None)
    assert results[0]["message"]["topic"] == "again"
    assert results[3]["problem"]["status"] == 400
    assert [each["seq"] for each in ask("GET", "/v1/dead-letters").json["dead_letters"]] == [
        5,
        4,
        2,
    ]
    assert deeds(ask) == [("dead-letter-redrive", "1"), ("dead-letter-redrive", "3")]


def test_letters_of_a_reason_are_sent_again_batch_by_batch(ask, store):
    writer = store.open_writer()
    writer.store([letter(b"", "t"), *(letter(b"%d" % n, "t") for n in range(120))])
    writer.close()
    first = ask("POST", "/v1/dead-letters/redrive", {"reason": "conflict"}).json
    assert (len(first["results"]), first["queued"]) == (100, 99)
    assert first["results"][0]["problem"]["type"].endswith("not-redrivable")
    second = ask(
        "POST", "/v1/dead-letters/redrive", {"reason": "conflict", "after": first["next"]}
    ).json
    assert (len(second["results"]), second["queued"], second["next"]) == (21, 21, None)
    assert ask("GET", "/v1/dead-letters").json["count"] == 1
    assert ask("POST", "/v1/dead-letters/redrive", {"reason": "none"}).json["results"] == []


@pytest.mark.parametrize("error", [RefusedError("blocked"), BrokerError("away")])
def test_a_broker_that_goes_away_ends_the_batch_and_no_letter_is_lost(services, letters, error):
    import dataclasses

    published = []

    def publish(envelope):
        if len(published) == 2:
            raise error
        published.append(envelope)

    redriver = Redriver(services.config, services.dead_letters, publish)
    ask = asking(dataclasses.replace(services, redriver=redriver))
    answer = ask("POST", "/v1/dead-letters/redrive", {"ids": [1, 2, 3, 4, 5]})
    assert [r["outcome"] for r in answer.json["results"]] == [
        "queued", "queued", "failed", "left", "left",
    ]  # fmt: skip
    assert answer.json["results"][2]["problem"]["status"] == 503
    assert ask("GET", "/v1/dead-letters").json["count"] == 3


@pytest.mark.parametrize(
    "asked",
    [
        b"", {}, {"ids": []}, {"ids": [1], "reason": "x"}, {"ids": [1], "after": "0"},
        {"ids": [[]]}, {"ids": [None]}, {"ids": [True]}, {"ids": "1"}, {"ids": list(range(101))},
        {"reason": 7}, {"reason": "x", "after": "nonsense"}, {"ids": [1], "force": "yes"},
        {"ids": [1], "x": 1}, [], b"\xff", b"[" * 9000,
    ],
)  # fmt: skip
def test_a_malformed_batch_is_refused_and_nothing_is_sent(ask, letters, asked):
    assert ask("POST", "/v1/dead-letters/redrive", asked).status_code == 400
    assert ask("GET", "/v1/dead-letters").json["count"] == 5
