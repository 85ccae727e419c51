"""The console's pages of replays: counted first, made, listed, stopped, and resumed."""

import html
import re

import pytest
from console_client import ConsoleClient
from delivery_rows import URL
from store_contents import many

from appliance import config as configuration
from appliance.store.access_rows import Actor

PAGE = "/console/replays"
HOSTILE = "</td><script>alert(1)</script>\x1b[31m"


@pytest.fixture
def client(tmp_path):
    client = ConsoleClient(
        configuration.load({"APPLIANCE_DATA": str(tmp_path), "APPLIANCE_MIN_FREE_BYTES": "0"})
    )
    client.sign_in()
    writer = client.store.open_writer()
    writer.store([many([b'{"n":%d}' % n for n in range(10)], "orders")])
    writer.close()
    wish = {"url": URL, "topics": ["orders"], "where": ["n>=5"]}
    client.services.endpoint_desk.create("erp", wish, Actor("test", ""))
    yield client
    client.close()


def send(client, path="/new", **fields):
    csrf = re.search(r'name="csrf" value="(\w+)"', client.get("/console/help").text)[1]
    return client.post(PAGE + path, {"csrf": csrf, **fields})


def words(answer):
    text = re.sub(r"<style.*?</style>|<[^>]+>", " ", answer.text, flags=re.DOTALL)
    return " ".join(html.unescape(text).split())


def test_pages_of_replays_are_for_administrators(client):
    assert "There is none yet." in client.get(PAGE).text
    assert f'href="{PAGE}"' in client.get("/console/endpoints").text
    _, secret = client.services.tokens.create("reader", ["read"], Actor("test", ""))
    client.browser.delete_cookie("appliance_session")
    client.sign_in(secret)
    for path in ("", "/new"):
        assert client.get(PAGE + path).status_code == 403
    for path in ("/new", "/x/stop", "/x/resume"):
        assert send(client, path, into="a", sure="true").status_code == 403
    assert client.services.replays.newest() == []


def test_messages_are_counted_before_they_are_sent(client):
    page = send(client, endpoint="erp", first_seq="7")
    assert "4 messages would go to the endpoint erp" in words(page)
    assert "topics orders, where n>=5, first_seq 7" in words(page)
    assert client.services.replays.newest() == []
    assert "Send them again" in page.text
    none = send(client, into="a", topics="other")
    assert "0 messages would go to the topic a" in words(none)
    assert "Send them again" not in none.text
    made = send(client, endpoint="erp", first_seq="7", sure="true")
    assert (made.status_code, made.headers["Location"]) == (303, PAGE)
    (row,) = client.services.replays.newest()
    assert (row.target, row.messages, row.selection.first_seq) == ("erp", 4, 7)


def test_a_replay_is_listed_with_its_progress_stopped_and_resumed(client):
    send(client, into="copies", sql="SELECT seq FROM messages", sure="true")
    (row,) = client.services.replays.newest()
    page = client.get(PAGE)
    assert page.headers["Refresh"] == "2"
    assert 'value="0" max="100"' in page.text
    assert "0 of 10" in words(page)
    for action, state in (("stop", "stopped"), ("resume", "running")):
        assert send(client, f"/{row.id}/{action}").status_code == 303
        assert client.services.replays.find(row.id).state == state
    assert send(client, "/none/stop").status_code == 404
    send(client, f"/{row.id}/stop")
    assert "Refresh" not in client.get(PAGE).headers


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({}, "name the endpoint"),
        ({"into": "a", "endpoint": "erp"}, "name the endpoint"),
        ({"into": "a", "first_seq": "x"}, "first_seq: expected"),
        ({"into": "a", "where": "="}, "select.where"),
        ({"into": "a", "sql": "DELETE FROM messages"}, "begins with SELECT or WITH"),
        ({"into": "a", "topics": "none", "sure": "true"}, "no stored message is selected"),
        ({"into": "a", "q": HOSTILE, "sql": "x"}, "a query selects alone"),
    ],
)
def test_a_form_that_is_wrong_is_shown_again_with_words(client, fields, word):
    page = send(client, **fields)
    assert page.status_code == 200
    assert word in words(page)
    assert "<script>alert" not in page.text
    assert client.services.replays.newest() == []


def test_a_replay_that_ended_is_shown_with_the_reason_and_can_not_go_on(client):
    send(client, endpoint="erp", q=HOSTILE.replace("\x1b", " ") + " n", sure="true")
    send(client, endpoint="erp", sure="true")
    client.services.endpoint_desk.remove("erp", Actor("test", ""))
    (row,) = client.services.replays.newest()
    page = client.get(PAGE)
    assert "the endpoint was removed" in words(page)
    assert "<script>alert" not in page.text
    assert "make another" in words(send(client, f"/{row.id}/resume"))
