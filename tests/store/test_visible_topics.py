"""A token for some topics sees these in every view, and nothing that tells of the others."""

import csv
import io

import pytest
from flask_app import app_of
from store_contents import IDS, TIME, letter, one

from appliance.auth.principal import Principal, Right
from appliance.model.wire import single
from appliance.store.access_rows import Actor, Deed, SchemaRow

SECRET = "only-for-others"


@pytest.fixture
def ids():
    return {"orders.new": IDS.new(), "salaries": IDS.new(), "dead": IDS.new()}


@pytest.fixture
def app(config, store, writer, ids):
    for topic in ("orders.new", "salaries"):
        writer.store([single(topic, ids[topic], TIME, SECRET.encode())])
    writer.store(
        [
            one(b"x", "orders.old"),
            one(b"y", "aaa"),
            letter(b"mine", "orders.new", message_id=ids["dead"]),
            letter(SECRET.encode(), "salaries", message_id=ids["dead"]),
            letter(SECRET.encode(), "SALARIES", "bad-topic", message_id="another"),
        ]
    )
    return app_of(config)


@pytest.fixture
def get(app):
    """Ask as a reader of `orders.*`, or of other patterns."""

    def get(path, *patterns, method="get"):
        reader = Principal("report", frozenset({Right.READ}), patterns or ("orders.*",))
        client = app.test_client()
        return getattr(client, method)(path, environ_overrides={"appliance.principal": reader})

    return get


def test_topics_are_listed_page_by_page_without_the_others(get):
    assert [t["topic"] for t in get("/v1/topics").json["topics"]] == ["orders.new", "orders.old"]
    page = get("/v1/topics?limit=1").json
    assert [t["topic"] for t in page["topics"]] == ["orders.new"]
    page = get(page["next_url"]).json
    assert [t["topic"] for t in page["topics"]] == ["orders.old"]
    assert page["next"] is None
    assert get("/v1/topics", "none").json == {"topics": [], "next": None, "next_url": None}
    assert len(get("/v1/topics", "*").json["topics"]) == 4


@pytest.mark.parametrize("topic", ["salaries", "never-seen"])
@pytest.mark.parametrize("query", ["", "?format=ndjson", "?format=csv", "?after=0", "?since=1d"])
def test_messages_of_another_topic_are_forbidden_whether_there_are_any_or_not(get, topic, query):
    answer = get(f"/v1/topics/{topic}/messages{query}")
    assert answer.status_code == 403
    assert topic not in answer.text.replace(f"/v1/topics/{topic}", "")
    assert get(f"/v1/topics/orders.new/messages{query}").status_code == 200


@pytest.mark.parametrize("path", ["", "/body"])
def test_a_message_of_another_topic_is_as_unknown_as_one_that_does_not_exist(get, ids, path):
    hidden = get(f"/v1/messages/{ids['salaries']}{path}")
    unknown_id = IDS.new()
    unknown = get(f"/v1/messages/{unknown_id}{path}")
    assert hidden.status_code == unknown.status_code == 404
    assert hidden.text == unknown.text.replace(unknown_id, ids["salaries"])
    assert hidden.headers.to_wsgi_list() == unknown.headers.to_wsgi_list()
    assert get(f"/v1/messages/{ids['orders.new']}{path}").status_code == 200


def test_dead_letters_are_listed_and_counted_without_those_of_other_topics(get):
    page = get("/v1/dead-letters").json
    assert [row["topic"] for row in page["dead_letters"]] == ["orders.new"]
    assert page["count"] == 1
    for query in ("topic=salaries", "topic=SALARIES", "reason=bad-topic"):
        page = get(f"/v1/dead-letters?{query}").json
        assert (page["dead_letters"], page["count"], page["newest"]) == ([], 0, None)
    assert SECRET not in get("/v1/dead-letters?format=ndjson").text
    rows = list(csv.reader(io.StringIO(get("/v1/dead-letters?format=csv").text)))
    assert len(rows) == 2
    assert get("/v1/dead-letters", "*").json["count"] == 3


@pytest.mark.parametrize("path", ["", "/body"])
def test_a_dead_letter_of_another_topic_is_as_unknown_as_one_that_does_not_exist(get, ids, path):
    seqs = {row["topic"]: row["seq"] for row in get("/v1/dead-letters", "*").json["dead_letters"]}
    hidden = get(f"/v1/dead-letters/{seqs['salaries']}{path}")
    unknown = get(f"/v1/dead-letters/999{path}")
    assert hidden.status_code == unknown.status_code == 404
    assert hidden.text == unknown.text.replace("999", str(seqs["salaries"]))
    by_id = f"/v1/dead-letters/{ids['dead']}{path}"
    assert get(by_id, "*").status_code == 409  # two letters have this id
    assert get(by_id).status_code == 200  # and this reader knows of one
    assert get(by_id, "aaa").status_code == 404
    assert SECRET not in get(f"/v1/messages/{ids['dead']}{path}").text


def test_a_schema_of_another_topic_is_neither_listed_nor_shown(get, store):
    deed = Deed(Actor("administrator", ""), "schema-set", "")
    for topic in ("salaries", "orders.new"):
        store.schemas.put(SchemaRow(topic, "observe", '{"title": "hidden"}', TIME), deed)
    assert [row["topic"] for row in get("/v1/schemas").json["schemas"]] == ["orders.new"]
    for topic in ("salaries", "never-seen"):
        assert get(f"/v1/topics/{topic}/schema").status_code == 403
    assert get("/v1/topics/orders.new/schema").status_code == 200


def test_the_status_counts_the_topics_that_may_be_read_and_shows_nothing_else(get):
    state = get("/v1/status").json
    store = state["store"]
    counts = [store[name] for name in ("messages", "topics", "dead_letters", "bytes")]
    assert counts == [2, 2, 1, len(SECRET) + 1]
    assert {store["database_bytes"], state["broker"], state["disk"], state["probe"]} == {None}
    assert state["processes"] == state["pulses"] == []
    assert get("/v1/status", "none").json["store"]["last_at"] is None
    whole = get("/v1/status", "*").json
    assert whole["store"]["messages"] == 4
    assert whole["store"]["database_bytes"] > 0
    assert list(whole) == list(state)
    assert list(whole["store"]) == list(store)
