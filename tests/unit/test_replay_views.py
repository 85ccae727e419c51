"""Replays over HTTP: ordered, counted first, stopped, resumed, and refused in words."""

import json

import pytest
from delivery_rows import URL
from flask_app import services_of
from store_contents import many, one

from appliance import config as configuration
from appliance.api import openapi
from appliance.api.app import create_app
from appliance.api.views import replays
from appliance.auth.principal import ADMINISTRATOR
from appliance.operations.replay_desk import SELECT
from appliance.store import open_store

ALL = {"topics": ["*"]}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """An application with ten messages of `orders.eu` and one of `other`, and an endpoint."""
    folder = tmp_path_factory.mktemp("replays")
    config = configuration.load({"APPLIANCE_DATA": str(folder), "APPLIANCE_MIN_FREE_BYTES": "0"})
    store = open_store(config)
    store.migrate()
    writer = store.open_writer()
    writer.store([many([b'{"n":%d}' % n for n in range(10)], "orders.eu"), one(b"x", "other")])
    writer.close()
    services = services_of(config)
    client = create_app(services).test_client()

    def ask(method, path, asked=None):
        body = asked if isinstance(asked, bytes) or asked is None else json.dumps(asked)
        who = {"appliance.principal": ADMINISTRATOR, "REMOTE_ADDR": "192.0.2.7"}
        return client.open(path, method=method, data=body, environ_overrides=who)

    made = ask(
        "POST",
        "/v1/endpoints",
        {"name": "erp", "url": URL, "topics": ["orders.*"], "where": ["n>=5"]},
    )
    assert made.status_code == 201
    yield ask
    services.reader.close()


def dry(ask, **wish):
    answer = ask("POST", "/v1/replays", {"dry_run": True, **wish})
    assert answer.status_code == 200, answer.text
    return answer.json


def test_a_dry_run_counts_and_makes_nothing(served):
    before = served("GET", "/v1/replays").json
    assert dry(served, into="again", select={"where": ["n>=7"]}) == {
        "dry_run": True, "endpoint": None, "into": "again", "select": {"where": ["n>=7"]},
        "messages": 3, "complete": True, "last_seq": 11,
    }  # fmt: skip
    assert dry(served, into="again")["messages"] == 11
    found = dry(served, into="again", select={"sql": "SELECT seq FROM messages WHERE seq > 9"})
    assert (found["messages"], found["last_seq"]) == (2, 11)
    assert served("GET", "/v1/replays").json == before


def test_an_endpoint_gets_what_it_would_get_unless_topics_are_named(served):
    found = dry(served, endpoint="erp", select={"first_seq": 7})
    assert found["select"] == {"topics": ["orders.*"], "where": ["n>=5"], "first_seq": 7}
    assert found["messages"] == 4
    found = dry(served, endpoint="erp", select={"topics": ["other"]})
    assert (found["select"], found["messages"]) == ({"topics": ["other"]}, 1)
    found = dry(served, endpoint="erp", select={"sql": "SELECT 1"})
    assert (found["select"], found["messages"]) == ({"sql": "SELECT 1"}, 1)


def test_a_replay_is_made_stopped_and_resumed(served):
    answer = served("POST", "/v1/replays", {"endpoint": "erp"})
    made = answer.json
    assert (answer.status_code, answer.headers["Location"]) == (201, f"/v1/replays/{made['id']}")
    expected = {
        "endpoint": "erp", "into": None, "state": "running", "reason": None, "messages": 5,
        "progress": 0.0, "sent": 0, "waiting": 0, "given_up": 0, "gone": 0, "cursor": 0,
        "last_seq": 11, "ended_at": None, "address": "192.0.2.7",
    }  # fmt: skip
    assert {name: made[name] for name in expected} == expected
    path = f"/v1/replays/{made['id']}"
    assert served("GET", path).json == made
    assert served("GET", "/v1/replays").json["replays"][0] == made
    for action, state in (
        ("stop", "stopped"), ("stop", "stopped"), ("resume", "running"), ("resume", "running"),
    ):  # fmt: skip
        answer = served("POST", f"{path}/{action}")
        assert (answer.status_code, answer.json["state"]) == (200, state)
    trail = served("GET", "/v1/audit?after=0").json["audit"]
    deeds = [(e["action"], e["details"]) for e in trail if e["target"] == made["id"]]
    assert [action for action, _ in deeds] == ["replay-create", "replay-stop", "replay-resume"]
    assert deeds[0][1] == "to the endpoint erp: topics orders.*, where n>=5"


def test_a_replay_that_has_ended_can_not_go_on(served):
    name = {"name": "short-lived", "url": URL}
    assert served("POST", "/v1/endpoints", name).status_code == 201
    made = served("POST", "/v1/replays", {"endpoint": "short-lived"}).json
    served("DELETE", "/v1/endpoints/short-lived")
    path = f"/v1/replays/{made['id']}"
    found = served("GET", path).json
    assert (found["state"], found["reason"]) == ("failed", "the endpoint was removed")
    assert served("POST", f"{path}/stop").json["state"] == "failed"
    answer = served("POST", f"{path}/resume")
    assert (answer.status_code, "make another" in answer.json["detail"]) == (400, True)


@pytest.mark.parametrize("path", ["nothing", "00000000-0000-7000-8000-000000000000"])
def test_a_replay_that_is_not_there_is_not_found(served, path):
    for method, rest in (("GET", ""), ("POST", "/stop"), ("POST", "/resume")):
        answer = served(method, f"/v1/replays/{path}{rest}")
        assert (answer.status_code, answer.json["type"]) == (
            404,
            "urn:queue-appliance:problem:not-found",
        )


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({}, "name the endpoint"),
        ({"endpoint": "erp", "into": "again"}, "name the endpoint"),
        ({"endpoint": "nobody"}, "endpoint: there is no endpoint nobody"),
        ({"into": "No Topic"}, "a topic has 1 to 100"),
        ({"into": "appliance.canary"}, "into: appliance.canary is the appliance's own"),
        ({"into": "a", "dry_run": "yes"}, "dry_run: expected true or false"),
        ({"into": "a", "other": 1}, "unknown member 'other'"),
        ({"into": "a", "select": []}, "select: expected an object"),
        (
            {"into": "a", "select": {"topic": "x"}},
            "select: unknown member 'topic'; it takes topics",
        ),
        ({"into": "a", "select": {"topics": "x"}}, "select.topics: expected a list"),
        ({"into": "a", "select": {"topics": ["O!"]}}, "select.topics: 'O!' is neither a topic"),
        ({"into": "a", "select": {"where": ["="]}}, "select.where: "),
        ({"into": "a", "select": {"kind": "xml"}}, "select.kind: expected one of json"),
        ({"into": "a", "select": {"since": "soon"}}, "select.since: "),
        ({"into": "a", "select": {"q": "x" * 1001}}, "select.q: expected at most"),
        ({"into": "a", "select": {"first_seq": 0}}, "select.first_seq: expected the seq"),
        ({"into": "a", "select": {"first_seq": True}}, "select.first_seq: expected a whole"),
        ({"into": "a", "select": {"last_seq": 2**63}}, "select.last_seq: expected"),
        ({"into": "a", "select": {"first_seq": 5, "last_seq": 4}}, "select.last_seq: expected fir"),
        ({"into": "a", "select": {"sql": "SELECT 1", "kind": "json"}}, "a query selects alone"),
        ({"into": "a", "select": {"sql": "DELETE FROM messages"}}, "begins with SELECT or WITH"),
        ({"into": "a", "select": {"sql": "SELECT id FROM messages"}}, "expected whole numbers"),
        ({"into": "a", "select": {"sql": "SELECT digest FROM tokens"}}, "can only read"),
        ({"into": "a", "select": {"topics": ["none"]}}, "no stored message is selected"),
    ],
)
def test_a_replay_that_can_not_be_is_refused_in_words(served, wish, words):
    answer = served("POST", "/v1/replays", wish)
    assert answer.status_code == 400
    assert answer.json["type"].startswith("urn:queue-appliance:problem:bad-")
    assert words in answer.json["detail"]


def test_hostile_texts_of_a_selection_are_refused_or_searched(served):
    lone = b'{"into":"a","select":{"%s":"\\ud800"}}'
    for body in (lone % b"q", lone % b"sql", lone % b"since"):
        assert served("POST", "/v1/replays", body).status_code == 400
    for text in ("\0", '"' * 100):
        wish = {"into": "a", "dry_run": True, "select": {"q": text}}
        assert "no word in it" in served("POST", "/v1/replays", wish).json["detail"]
    for text in ("'; DROP TABLE messages; --", "* OR n"):
        assert dry(served, into="a", select={"q": text, "where": ["n=1"]})["messages"] == 0
    assert dry(served, into="a")["messages"] == 11


def test_the_members_of_a_replay_are_those_that_are_described(served):
    schemas = openapi.describe(configuration.load({"APPLIANCE_DATA": "/nowhere"}), "1.2.3")[
        "components"
    ]["schemas"]
    assert set(schemas["NewReplay"]["properties"]) == set(replays.MEMBERS)
    assert set(schemas["ReplaySelection"]["properties"]) == set(SELECT)
    made = served("POST", "/v1/replays", {"into": "again"}).json
    assert set(schemas["Replay"]["properties"]) == set(made)
    assert set(schemas["DryReplay"]["properties"]) == set(dry(served, into="again"))
