"""Endpoints, subscriptions and messages for later as metrics, status and doctor show them."""

import time

import pytest
from console_client import ConsoleClient
from store_contents import many

from appliance import config as configuration
from appliance.api import scrape
from appliance.cli.text.status_text import status_lines
from appliance.doctor.deliverer import delivers
from appliance.doctor.diagnosis import Level
from appliance.machine.pulse import Pulse
from appliance.metrics.families import FAMILIES
from appliance.model import timestamps
from appliance.model.contents import DelayedEnvelope
from appliance.model.ids import IdSource
from appliance.model.wire import single
from appliance.store.access_rows import Actor, Deed
from appliance.store.sql.pulling import StoredPuller
from appliance.store.sqlite.database import connect
from appliance.store.sqlite.sql_database import SqliteDatabase
from appliance.store.subscription_rows import Receive, SubscriptionRow

BY = Actor("administrator", "127.0.0.1")
DUE = "2099-01-01T00:00:00.000Z"


@pytest.fixture
def config(tmp_path):
    return configuration.load({"APPLIANCE_DATA": str(tmp_path), "APPLIANCE_MIN_FREE_BYTES": "0"})


@pytest.fixture
def client(config):
    client = ConsoleClient(config)
    yield client
    client.close()


def store(client, *contents):
    writer = client.store.open_writer()
    writer.store(contents)
    writer.close()


def endpoint(client, name, **values):
    """Make an endpoint, and change its row by SQL."""
    client.services.endpoint_desk.create(name, {"url": "https://example.com/"}, BY)
    change(client, name, **values)


def change(client, name, **values):
    link = connect(client.store.path, readonly=False)
    for column, value in values.items():
        link.execute(f"UPDATE endpoints SET {column} = ? WHERE name = ?", (value, name))
    link.close()


def test_each_endpoint_has_metrics_under_its_name(client):
    endpoint(client, "erp", broken_at=time.time())
    endpoint(client, "shop", state="paused", broken_at=time.time())
    store(client, many([b"1", b"2", b"3"]))
    found = scrape.samples(client.services)
    assert found["endpoint_lag_messages"] == {("erp",): 3, ("shop",): 3}
    assert found["endpoint_lag_seconds"]["erp",] > 0
    assert found["endpoint_breaker_open"] == {("erp",): 1, ("shop",): 0}
    assert found["endpoint_paused"] == {("erp",): 0, ("shop",): 1}
    assert found["endpoint_waiting_messages"]["erp",] == 0
    assert found["endpoint_given_up_messages"]["erp",] == 0
    assert found.keys() <= {family.name for family in FAMILIES}


def test_replays_have_metrics_by_their_state(client):
    store(client, many([b"1", b"2", b"3"]))
    desk = client.services.replays
    kept = desk.create(desk.read({"into": "copies"}), BY)
    desk.create(desk.read({"into": "others"}), BY)
    desk.stop(kept.id, BY)
    link = connect(client.store.path, readonly=False)
    link.execute("UPDATE replays SET sent = 2 WHERE id = ?", (kept.id,))
    link.close()
    found = scrape.samples(client.services)
    states = {("running",): 1, ("stopped",): 1, ("done",): 0, ("failed",): 0}
    assert found["replays"] == states
    assert found["replay_sent_messages"] == dict.fromkeys(states, 0) | {("stopped",): 2}
    assert found.keys() <= {family.name for family in FAMILIES}


def test_each_subscription_has_metrics_of_what_is_where(client):
    store(client, many([b"1", b"2", b"3"]))
    row = SubscriptionRow("jobs", ("*",), 60, 5, timestamps.now())
    client.services.subscriptions.create(row, "", Deed(BY, "subscription-create", "jobs"))
    puller = StoredPuller(SqliteDatabase(client.store.path, client.services.reader))
    puller.serve([Receive("jobs", None, 2, None)])
    link = connect(client.store.path, readonly=False)
    link.execute("UPDATE leases SET until = 0 WHERE seq = 1")
    link.close()
    (got,) = puller.serve([Receive("jobs", None, 1, None)])
    assert [each.attempt for each in got.messages] == [2]
    found = scrape.samples(client.services)
    values = {
        name: found[f"subscription_{name}"]["jobs",]
        for name in ("lag_messages", "leased_messages", "waiting_messages", "dead_messages",
                     "redelivered_total")
    }  # fmt: skip
    assert list(values.values()) == [1, 2, 0, 0, 1]


def test_messages_for_later_are_counted_with_the_time_of_the_next_one(client):
    assert "delayed_next_due_timestamp_seconds" not in scrape.samples(client.services)
    for due_at in ("2099-06-01T00:00:00.000Z", DUE):
        message = single("mail", IdSource().new(), timestamps.now(), b"later")
        object.__setattr__(message, "due_at", due_at)
        store(client, DelayedEnvelope(message))
    found = scrape.samples(client.services)
    assert found["delayed_messages"] == {(): 2}
    due = timestamps.seconds_between(timestamps.EPOCH, DUE)
    assert found["delayed_next_due_timestamp_seconds"] == {(): due}


def test_doctor_says_whether_somebody_delivers(client, config):
    endpoints = client.services.endpoints
    assert delivers(config, endpoints).found == "no endpoint is active"
    endpoint(client, "erp")
    assert delivers(config, endpoints).found == "1 active; the appliance is stopped"
    with Pulse(config, "api", environ={}):
        missing = delivers(config, endpoints)
        assert (missing.level, missing.found[:19]) == (Level.ERROR, "no process delivers")
        with Pulse(config, "deliver", environ={}):
            assert delivers(config, endpoints).level is Level.OK
            change(client, "erp", broken_at=time.time())
            failing = delivers(config, endpoints)
            assert (failing.level, failing.found) == (
                Level.WARNING, "1 of 1 endpoints take no messages: erp",
            )  # fmt: skip


def test_doctor_says_that_the_process_that_delivers_hangs(client, config, monkeypatch):
    endpoint(client, "erp")
    with Pulse(config, "deliver", environ={}):
        began = time.monotonic()
        monkeypatch.setattr("time.monotonic", lambda: began + 95)
        hangs = delivers(config, client.services.endpoints)
    assert hangs.level is Level.ERROR
    assert "no sign of life for 95 s" in hangs.found


def test_status_says_how_endpoints_are_and_what_waits_for_later():
    status = {
        "deliveries": {"endpoints": 3, "active": 2, "failing": 1, "trouble": "no deliver runs"},
        "delayed": {"messages": 2, "next_due_at": DUE},
        **dict.fromkeys(("broker", "quarantine", "alerts", "disk", "store", "processes")),
        "version": "1", "ready": True, "reasons": [], "pulses": [],
    }  # fmt: skip
    lines = "\n".join(status_lines(status, "http://x"))
    assert "3 endpoints, 2 active, 1 failing: appliance endpoint list; no deliver runs" in lines
    assert "2 messages for later, the next one at 2099-01-01T00:00:00Z" in lines
