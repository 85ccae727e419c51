"""Searches over HTTP, as the views answer them; and the limits of a token for some topics."""

import csv
import io
import json

import pytest
from flask_app import app_of
from store_contents import many, one

from appliance.auth.principal import Principal, Right
from appliance.store.sql import search_range


@pytest.fixture
def get(config, store, writer):
    """Ask as the administrator, or as a reader of some topics."""
    writer.store(
        [
            many([b'{"n": %d, "text": "card declined"}' % n for n in range(30)], "orders.eu"),
            one("Straße <b>card</b> & 🎉".encode(), "notes"),
            one(b"\xff\x00", "notes"),
        ]
    )
    client = app_of(config).test_client()

    def get(path, *patterns, **query):
        options = {"query_string": query} if query else {}
        if patterns:
            reader = Principal("report", frozenset({Right.READ}), patterns)
            options["environ_overrides"] = {"appliance.principal": reader}
        return client.get(path, **options)

    return get


def test_pages_of_a_search_hold_every_hit_once_in_both_directions(get):
    def pages(path, **query):
        page = get(path, **query).json
        while True:
            yield from (json.loads(row["body"])["n"] for row in page["messages"])
            if not page["next_url"]:
                assert not page["more"]
                return
            assert page["more"]
            page = get(page["next_url"]).json

    query = {"q": "card", "where": ["n>=10", "n<20"], "limit": 3}
    for path in ("/v1/messages", "/v1/topics/orders.eu/messages"):
        assert list(pages(path, **query)) == [*range(19, 9, -1)]
        assert list(pages(path, **query, after="0")) == [*range(10, 20)]


def test_newest_goes_on_behind_all_that_was_looked_at(get, writer):
    page = get("/v1/messages", q="nothing").json
    assert (page["messages"], page["more"], page["complete"]) == ([], False, True)
    writer.store([one(b"nothing", "notes")])
    for expected in (["nothing"], []):
        page = get("/v1/messages", q="nothing", after=page["newest"]).json
        assert [row["body"] for row in page["messages"]] == expected


def test_an_excerpt_is_plain_text_in_parts(get):
    rows = get("/v1/messages", q="CARD", topic="notes").json["messages"]
    assert [row["excerpt"] for row in rows] == [
        [
            {"text": "Straße <b>", "hit": False},
            {"text": "card", "hit": True},
            {"text": "</b> & 🎉", "hit": False},
        ]
    ]
    assert "excerpt" not in get("/v1/messages").json["messages"][0]


def test_a_search_that_ends_before_its_page_is_full_says_so(get, monkeypatch):
    monkeypatch.setattr(search_range, "FIND_SECONDS", -0.5)
    monkeypatch.setattr(search_range, "LOOK_EVERY", 4)
    page = get("/v1/messages", where="n=5").json
    assert (page["messages"], page["more"], page["complete"]) == ([], True, False)
    assert "next_url" in page["note"]
    rounds = 1
    while not page["messages"]:
        page = get(page["next_url"]).json
        rounds += 1
    assert [json.loads(row["body"])["n"] for row in page["messages"]] == [5]
    assert rounds > 5


def test_exports_have_what_the_search_finds(get):
    lines = get("/v1/messages", format="ndjson", where="n<2").text.splitlines()
    assert [json.loads(json.loads(line)["body"])["n"] for line in lines] == [1, 0]
    answer = get("/v1/messages", format="csv", kind="binary")
    assert [row[1] for row in csv.reader(io.StringIO(answer.text))] == ["topic", "notes"]
    assert "messages.csv" in answer.headers["Content-Disposition"]
    answer = get("/v1/topics/orders.eu/messages", format="csv", where="n=3")
    assert len(answer.text.splitlines()) == 2
    assert "orders.eu.csv" in answer.headers["Content-Disposition"]


def test_a_token_for_some_topics_finds_no_others(get):
    def topics(**query):
        answer = get("/v1/messages", "notes", "none.*", **query)
        return [row["topic"] for row in answer.json["messages"]]

    assert topics() == topics(topic="*") == topics(topic="notes") == ["notes"] * 2
    assert topics(q="card") == ["notes"]
    assert topics(topic="orders.eu") == topics(where="n=1") == topics(topic="orders.*") == []
    assert "orders" not in get("/v1/messages", "notes", format="ndjson").text
    csv_of_orders = get("/v1/messages", "notes", format="csv", topic="orders.eu").text
    assert len(csv_of_orders.splitlines()) == 1
    assert get("/v1/messages", "none").json["messages"] == []
    assert get("/v1/topics/orders.eu/messages", "notes", q="card").status_code == 403


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ({"where": "no condition"}, "customer.id=42"),
        ({"where": "a=" + "x" * 2000}, "1000 characters"),
        ({"where": ["a=1"] * 21}, "20 times"),
        ({"where": "a..b=1"}, "where"),
        ({"kind": "xml"}, "json, text, binary"),
        ({"topic": "Orders"}, "commas"),
        ({"topic": "a," * 200}, "100 topics"),
        ({"q": ["a", "b"]}, "once"),
        ({"for": "excel"}, "format=csv"),
        ({"cols": "a"}, "topic"),
    ],
)
def test_a_parameter_that_is_wrong_is_named(get, query, word):
    answer = get("/v1/messages", **query)
    assert answer.status_code == 400
    assert word in answer.json["detail"]


HOSTILE = ['"', "'", "\0", "a" * 10_000, "🎉" * 2000, "*", "-", '"" -""', "a:b ^c {d}", "\ud800"]


def test_hostile_text_is_a_search_like_any_other(get):
    for text in HOSTILE:
        for name, value in (("q", text), ("where", f"a={text[:500]}")):
            quoted = "".join(f"%{byte:02x}" for byte in value.encode(errors="surrogatepass"))
            assert get(f"/v1/messages?{name}={quoted}").status_code == 200, (name, text[:20])


def test_the_shape_of_a_topic_is_that_of_its_newest_messages(get):
    shape = get("/v1/topics/orders.eu/shape").json
    assert (shape["looked_at"], shape["json"], shape["left_out"]) == (30, 30, False)
    assert shape["keys"] == [
        {"path": "n", "share": 1.0, "kinds": {"integer": 30}},
        {"path": "text", "share": 1.0, "kinds": {"text": 30}},
    ]
    assert get("/v1/topics/notes/shape").json["keys"] == []
    assert get("/v1/topics/never-seen/shape").status_code == 404
    assert get("/v1/topics/orders.eu/shape", "notes").status_code == 403
    assert get("/v1/topics/orders.eu/shape?x=1").status_code == 400
