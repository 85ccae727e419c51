"""The console's pages of subscriptions and of messages for later."""

import re

import pytest
from console_client import ConsoleClient

from appliance import config as configuration
from appliance.model.contents import DelayedEnvelope
from appliance.model.ids import IdSource
from appliance.model.wire import single
from appliance.store.access_rows import Actor

BY = Actor("test", "")
IDS = IdSource()


@pytest.fixture
def client(tmp_path):
    client = ConsoleClient(
        configuration.load({"APPLIANCE_DATA": str(tmp_path), "APPLIANCE_MIN_FREE_BYTES": "0"})
    )
    client.sign_in()
    yield client
    client.close()


def send(client, path, **fields):
    csrf = re.search(r'name="csrf" value="(\w+)"', client.get("/console/help").text)[1]
    return client.post(f"/console/{path}", {"csrf": csrf, **fields})


def read_only(client, topics=None):
    _, secret = client.services.tokens.create("reader", ["read"], BY, topics=topics or ["*"])
    client.browser.delete_cookie("appliance_session")
    client.sign_in(secret)


def wait_for(client, topic, due_at="2099-01-01T00:00:00.000Z"):
    message = single(topic, IDS.new(), "2026-01-01T00:00:00.000Z", b"later")
    object.__setattr__(message, "due_at", due_at)
    writer = client.store.open_writer()
    writer.store([DelayedEnvelope(message)])
    writer.close()
    return message.id


def test_a_subscription_is_made_listed_and_removed_by_its_name(client):
    assert "There is none yet." in client.get("/console/subscriptions").text
    made = send(client, "subscriptions", name="jobs", topics="jobs.*, mail", lease_seconds="30")
    assert made.status_code == 303
    row = client.services.subscriptions.find("jobs")
    assert (row.topics, row.lease_seconds, row.most_attempts) == (("jobs.*", "mail"), 30, 5)
    assert "jobs.*, mail" in client.get("/console/subscriptions").text
    assert "Type its name" in send(client, "subscriptions/jobs/remove").text
    assert "Nothing was removed" in send(client, "subscriptions/jobs/remove", typed="x").text
    assert send(client, "subscriptions/jobs/remove", typed="jobs").status_code == 303
    assert client.services.subscriptions.all() == []
    assert send(client, "subscriptions/jobs/remove", typed="jobs").status_code == 404


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"name": "a/b"}, "name"),
        ({"topics": "A_B!"}, "topics"),
        ({"lease_seconds": "1e9"}, "lease_seconds"),
        ({"max_attempts": "0"}, "max_attempts"),
        ({"from": "never"}, "from"),
    ],
)
def test_a_subscription_that_can_not_be_made_is_refused_in_words(client, fields, word):
    page = send(client, "subscriptions", **{"name": "jobs", **fields}).text
    assert word in re.search(r'role="alert">([^<]+)<', page)[1]
    assert client.services.subscriptions.all() == []


def test_subscriptions_are_for_administrators(client):
    read_only(client)
    assert client.get("/console/subscriptions").status_code == 403
    assert send(client, "subscriptions", name="jobs").status_code == 403
    assert send(client, "subscriptions/jobs/remove", typed="jobs").status_code == 403


def test_messages_for_later_are_listed_and_cancelled(client):
    assert "None waits" in client.get("/console/delayed").text
    first, second = wait_for(client, "mail"), wait_for(client, "sms", "2098-01-01T00:00:00.000Z")
    page = client.get("/console/delayed").text
    assert "2 messages wait" in page
    assert page.index(second) < page.index(first)
    answer = send(client, f"delayed/{first}/cancel")
    assert answer.status_code == 303
    assert "is cancelled" in client.get(answer.headers["Location"]).text
    assert client.services.delayed.find(first) is None
    assert send(client, f"delayed/{first}/cancel").status_code == 404
    assert send(client, "delayed/nonsense/cancel").status_code == 404


def test_a_reader_sees_messages_for_later_of_its_topics_and_cancels_none(client):
    hidden, shown = wait_for(client, "mail"), wait_for(client, "sms")
    read_only(client, ["sms"])
    page = client.get("/console/delayed").text
    assert shown in page
    assert "1 message waits" in page
    assert hidden not in page
    assert "/cancel" not in page
    assert send(client, f"delayed/{shown}/cancel").status_code == 403


def test_the_list_of_messages_for_later_goes_on_behind_a_page(client):
    for _ in range(51):
        wait_for(client, "mail")
    following = re.search(r'href="([^"]*after=[^"]*)"', client.get("/console/delayed").text)[1]
    page = client.get(following.replace("&amp;", "&")).text
    assert page.count("<tr data-row>") == 1
    assert client.get("/console/delayed?after=nonsense").status_code == 400
