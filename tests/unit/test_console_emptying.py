"""The console empties a topic: it asks with numbers, wants the name, and shows how far it is."""

import html
import re

import pytest
from console_client import ConsoleClient
from store_contents import many, one

from appliance import config as configuration
from appliance.errors import RefusedError
from appliance.model.contents import DeletionMark
from appliance.store.access_rows import Actor
from appliance.store.rows import Span

PAGE = "/console/topics/orders/empty"


@pytest.fixture
def client(tmp_path):
    client = ConsoleClient(
        configuration.load({"APPLIANCE_DATA": str(tmp_path), "APPLIANCE_MIN_FREE_BYTES": "0"})
    )
    client.writer = client.store.open_writer()
    client.writer.store([many([b"x" * 10] * 3, "orders"), one(b"y", "others")])
    client.sign_in()
    yield client
    client.writer.close()
    client.close()


def send(client, **fields):
    csrf = re.search(r'name="csrf" value="(\w+)"', client.get("/console/help").text)[1]
    return client.post(PAGE, {"csrf": csrf, **fields})


def words(answer):
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", answer.text)).split())


def ordered(client):
    return client.services.deletions.newest()


def sign_in_as(client, *rights):
    _, secret = client.services.tokens.create("someone", list(rights), Actor("test", ""))
    client.browser.delete_cookie("appliance_session")
    client.sign_in(secret)


def test_the_question_says_how_much_goes_and_how_old_the_last_backup_is(client):
    shown = words(client.get(PAGE))
    assert "3 messages of 30 B go" in shown
    assert "There is no backup" in shown
    desk = client.services.operations.backups
    assert desk.making.begin("test")
    assert desk.making.wait(30)
    assert re.search(r"The last backup is \d+ (ms|s) old", words(client.get(PAGE)))


def test_nothing_is_deleted_until_the_name_is_typed(client):
    for fields in ({}, {"typed": ""}, {"typed": "others"}, {"typed": "ORDERS"}):
        answer = send(client, **fields)
        assert "That is not its name. Nothing was deleted." in words(answer)
    assert client.post(PAGE, {"typed": "orders"}).status_code == 403
    assert ordered(client) == []


def test_a_deletion_is_followed_until_it_is_done_and_the_numbers_are_right(client):
    answer = send(client, typed="orders")
    assert answer.status_code == 303
    (row,) = ordered(client)
    page = answer.headers["Location"]
    assert page == f"/console/deletions/{row.id}"
    waiting = client.get(page)
    assert "Waiting." in waiting.text
    assert waiting.headers["Refresh"] == "2"
    client.writer.store([DeletionMark(row.id)])
    assert "Under way." in client.get(page).text
    client.store.deletions.work(lambda _: False)
    done = client.get(page)
    assert "Done. 3 messages of 30 B are gone." in words(done)
    assert "Refresh" not in done.headers
    assert "No message is stored here now" in client.get("/console/topics/orders").text
    assert client.store.reader.totals().messages == 1
    deeds = [(each.action, each.target) for each in client.services.access.audit(Span(after=1), 9)]
    assert ("message-delete", "orders") in deeds


def test_a_topic_or_a_deletion_that_is_none_is_not_found(client):
    for topic in ("never-used", "Not%20A%20Topic", "*", "o*", "%3Cscript%3E"):
        assert client.get(f"/console/topics/{topic}/empty").status_code == 404
    for name in ("x", "01890a5d-ac96-774b-bcce-b302099a8057", "%3Cscript%3E"):
        assert client.get(f"/console/deletions/{name}").status_code == 404


def test_a_token_that_reads_has_no_way_to_empty_a_topic(client):
    assert "Empty topic" in client.get("/console/topics/orders").text
    assert "Empty topic" not in client.get("/console/messages").text
    sign_in_as(client, "read", "publish")
    assert "Empty topic" not in client.get("/console/topics/orders").text
    assert client.get(PAGE).status_code == 403
    assert send(client, typed="orders").status_code == 403
    assert client.get("/console/deletions/x").status_code == 403
    assert ordered(client) == []


def test_a_broker_that_refuses_is_said_and_nothing_is_left_ordered(client, monkeypatch):
    def refuse(_):
        raise RefusedError("the broker is away")

    monkeypatch.setattr(client.services.deletions, "_mark", refuse)
    answer = send(client, typed="orders")
    assert answer.status_code == 503
    assert "the broker is away" in answer.text.lower()
    assert ordered(client) == []
