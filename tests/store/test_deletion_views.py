"""Deletions over HTTP, as the views answer them."""

import pytest
from flask_app import app_of
from store_contents import IDS, TIME, many, one

from appliance.deletion import DeletionDesk
from appliance.errors import DeadlineError, RefusedError
from appliance.model.contents import DeletionMark
from appliance.model.wire import single

UNKNOWN = "01890a5d-ac96-774b-bcce-b302099a8057"


@pytest.fixture
def client(config, store, writer):
    """A client of an API whose marks are stored at once; `client.trouble` is raised instead."""

    def mark(name):
        if made.trouble:
            raise made.trouble
        writer.store([DeletionMark(name)])

    made = app_of(config, deletions=DeletionDesk(store.deletions, mark)).test_client()
    made.trouble = None
    return made


def test_a_message_is_deleted_by_its_id(client, store, writer, contents):
    name = IDS.new()
    writer.store([single("t", name, TIME, b"this"), one(b"that")])
    answer = client.delete(f"/v1/messages/{name}")
    assert answer.status_code == 202
    asked = answer.json
    assert answer.headers["Location"] == f"/v1/deletions/{asked['id']}"
    assert (asked["status"], asked["selection"], asked["who"]) == (
        "queued", {"id": name}, "administrator",
    )  # fmt: skip
    assert client.get(answer.headers["Location"]).json["status"] == "under-way"
    store.deletions.work(lambda _: False)
    done = client.get(answer.headers["Location"]).json
    assert (done["status"], done["messages"], done["bytes"]) == ("done", 1, 4)
    assert client.get("/v1/deletions").json == {"deletions": [done]}
    assert contents.bodies() == [b"that"]


def test_messages_of_a_topic_are_counted_and_deleted_by_the_same_conditions(
    client, store, writer, contents
):
    writer.store([many([b'{"n":%d}' % n for n in range(10)]), one(b"x", "other")])
    path = "/v1/topics/t/messages"
    query = {"where": ["n>=3", "n<8"], "kind": "json", "since": "2020-01-01"}
    counted = client.delete(path, query_string={**query, "dry-run": "true"})
    assert (counted.status_code, counted.json) == (200, {"messages": 5, "complete": True})
    answer = client.delete(path, query_string=query)
    assert answer.json["selection"] == {
        "topic": "t", "since": "2020-01-01T00:00:00.000Z", "kind": "json", "where": ["n>=3", "n<8"],
    }  # fmt: skip
    store.deletions.work(lambda _: False)
    assert len(contents.bodies()) == 6
    client.delete(path)
    store.deletions.work(lambda _: False)
    assert contents.bodies() == [b"x"]
    assert client.get(path).status_code == 404


def test_a_refused_mark_leaves_no_order(client, store, writer):
    writer.store([one()])
    client.trouble = RefusedError("the broker is away; nothing was deleted")
    answer = client.delete("/v1/topics/t/messages")
    assert answer.status_code == 503
    assert store.deletions.newest(10) == []


def test_a_mark_that_is_not_confirmed_leaves_the_order_for_it(client, store, writer):
    writer.store([one()])
    client.trouble = DeadlineError("not confirmed")
    answer = client.delete("/v1/topics/t/messages")
    assert (answer.status_code, answer.json["type"].split(":")[-1]) == (503, "not-confirmed")
    (row,) = store.deletions.newest(10)
    assert row.status == "queued"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"/v1/messages/{UNKNOWN}", 404),
        ("/v1/messages/nonsense", 400),
        (f"/v1/messages/{UNKNOWN}?since=1d", 400),
        ("/v1/topics/none/messages", 404),
        ("/v1/topics/Bad/messages", 400),
        ("/v1/topics/t/messages?q=word", 400),
        ("/v1/topics/t/messages?limit=1", 400),
        ("/v1/topics/t/messages?dry-run=perhaps", 400),
        ("/v1/topics/t/messages?since=soon", 400),
        ("/v1/topics/t/messages?where=", 400),
        ("/v1/topics/t/messages?where=a%00=1&where=%ff", 400),
        ("/v1/topics/t/messages?kind=video", 400),
        ("/v1/topics/t/messages?until=1d&until=2d", 400),
        ("/v1/deletions", 405),
    ],
)
def test_a_deletion_that_is_not_possible_is_told_and_deletes_nothing(
    client, writer, store, contents, path, status
):
    writer.store([one()])
    answer = client.delete(path)
    assert answer.status_code == status
    assert answer.content_type == "application/problem+json"
    assert store.deletions.newest(10) == []


@pytest.mark.parametrize("name", ["nonsense", UNKNOWN])
def test_a_deletion_that_is_not_there_is_404(client, name):
    assert client.get(f"/v1/deletions/{name}").status_code == 404
