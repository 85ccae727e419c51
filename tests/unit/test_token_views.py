"""Tokens over HTTP: made, listed, revoked; each change is in the audit trail."""

import json

import pytest
import ready_made
from flask_app import services_of

from appliance import config as configuration
from appliance.api.app import create_app
from appliance.auth.principal import ADMINISTRATOR
from appliance.auth.snapshot import hashed
from appliance.store import open_store


@pytest.fixture
def services(tmp_path):
    config = configuration.load({"APPLIANCE_DATA": str(tmp_path), "APPLIANCE_MIN_FREE_BYTES": "0"})
    store = open_store(config)
    ready_made.migrate(store.path)
    services = services_of(config)
    yield services
    services.reader.close()


@pytest.fixture
def ask(services):
    client = create_app(services).test_client()

    def ask(method, path, asked=None):
        body = asked if isinstance(asked, bytes) or asked is None else json.dumps(asked)
        return client.open(
            path,
            method=method,
            data=body,
            environ_overrides={
                "appliance.principal": ADMINISTRATOR,
                "REMOTE_ADDR": "192.0.2.7",
            },
        )

    return ask


def trail(ask):
    entries = ask("GET", "/v1/audit?after=0").json["audit"]
    return [(e["who"], e["address"], e["action"], e["target"], e["details"]) for e in entries]


def test_a_token_is_shown_once_and_counts_at_once(ask, services):
    answer = ask("POST", "/v1/tokens", {"name": "till", "rights": ["publish"], "topics": ["a.*"]})
    made = answer.json
    assert answer.status_code == 201
    assert answer.headers["Location"] == "/v1/tokens/till"
    assert made["token"].startswith("qa_")
    assert len(made["token"]) == 46
    (listed,) = ask("GET", "/v1/tokens").json["tokens"]
    assert listed == {name: value for name, value in made.items() if name != "token"}
    assert services.access.rows().tokens[0].digest == hashed(made["token"].encode())
    authorizer = services.refresher._authorizer
    header = f"Bearer {made['token']}".encode()
    assert authorizer.principal(header).topics == ("a.*",)
    assert ask("DELETE", "/v1/tokens/till").status_code == 204
    assert authorizer.principal(header) is None
    assert ask("DELETE", "/v1/tokens/till").status_code == 404
    assert trail(ask) == [
        ("administrator", "192.0.2.7", "token-create", "till", "publish for a.*"),
        ("administrator", "192.0.2.7", "token-revoke", "till", ""),
    ]


@pytest.mark.parametrize(
    ("asked", "word"),
    [
        (b"", "rights"),
        ({"name": "a", "rights": [[]]}, "rights"),
        ({"name": "a", "rights": ["read"], "topics": [["a"]]}, "topics"),
        (b"\xff", "JSON"),
        (b"[" * 10_000, "JSON"),
        ([], "object"),
        ({}, "rights"),
        ({"name": "a"}, "rights"),
        ({"name": 7, "rights": ["read"]}, "name"),
        ({"name": "a/b", "rights": ["read"]}, "name"),
        ({"name": "administrator", "rights": ["read"]}, "name"),
        ({"name": "a", "rights": []}, "rights"),
        ({"name": "a", "rights": "read"}, "rights"),
        ({"name": "a", "rights": [1]}, "rights"),
        ({"name": "a", "rights": ["write"]}, "rights"),
        ({"name": "a", "rights": ["read"], "topics": ["A B"]}, "topics"),
        ({"name": "a", "rights": ["admin"], "topics": ["a"]}, "topics"),
        ({"name": "a", "rights": ["read"], "expires": "yesterday"}, "expires"),
        ({"name": "a", "rights": ["read"], "expires": "2020-01-01"}, "expires"),
        ({"name": "a", "rights": ["read"], "rate": "fast"}, "rate"),
        ({"name": "a", "rights": ["read"], "extra": 1}, "extra"),
    ],
)
def test_a_malformed_wish_is_refused_by_its_members_name(ask, asked, word):
    answer = ask("POST", "/v1/tokens", asked)
    assert answer.status_code == 400
    assert word in answer.json["detail"]
    assert ask("GET", "/v1/tokens").json == {"tokens": []}


def test_a_name_that_is_taken_is_refused(ask):
    wish = {"name": "a", "rights": ["read"]}
    assert ask("POST", "/v1/tokens", wish).status_code == 201
    answer = ask("POST", "/v1/tokens", wish)
    assert (answer.status_code, answer.json["type"].rpartition(":")[2]) == (409, "exists")


def test_the_audit_trail_is_paged_like_messages(ask):
    for n in range(5):
        ask("POST", "/v1/tokens", {"name": f"t{n}", "rights": ["read"]})
    page = ask("GET", "/v1/audit?limit=2").json
    assert [e["target"] for e in page["audit"]] == ["t4", "t3"]
    page = ask("GET", page["next_url"]).json
    assert [e["target"] for e in page["audit"]] == ["t2", "t1"]
    page = ask("GET", page["next_url"]).json
    assert [e["target"] for e in page["audit"]] == ["t0"]
    assert page["next"] is None
    assert ask("GET", "/v1/audit?nope=1").status_code == 400


def test_a_backup_and_a_discarded_letter_are_in_the_trail(ask, services):
    from store_contents import letter

    store = open_store(services.config)
    writer = store.open_writer()
    writer.store([letter(b"x", "t")])
    writer.close()
    copy = ask("GET", "/v1/backup")
    assert copy.data.startswith(b"SQLite format 3")
    copy.close()
    assert ask("HEAD", "/v1/backup").status_code == 200
    assert ask("DELETE", "/v1/dead-letters/1").status_code == 204
    assert ask("DELETE", "/v1/dead-letters/1").status_code == 404
    assert [entry[2] for entry in trail(ask)] == ["backup-download", "dead-letter-discard"]
    assert trail(ask)[1][3:] == ("1", "conflict, message an id of t")
