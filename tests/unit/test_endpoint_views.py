"""Endpoints over HTTP: made, changed, steered, removed; attempts listed; messages redriven."""

import json
import socket
import time
from contextlib import closing

import pytest
import ready_made
from delivery_rows import NOW, SECRET, URL, attempt, due
from flask_app import services_of
from store_contents import one

from appliance import config as configuration
from appliance.api.app import create_app
from appliance.auth.principal import ADMINISTRATOR
from appliance.auth.signatures import standard
from appliance.store import open_store
from appliance.store.endpoint_rows import DeliveryOutcome, EndpointStanding, LaneRow
from appliance.store.sqlite.database import sqlite3


def served(folder):
    config = configuration.load({"APPLIANCE_DATA": str(folder), "APPLIANCE_MIN_FREE_BYTES": "0"})
    ready_made.migrate(open_store(config).path)
    return services_of(config)


def asking(services):
    client = create_app(services).test_client()

    def ask(method, path, asked=None):
        body = asked if isinstance(asked, bytes) or asked is None else json.dumps(asked)
        who = {"appliance.principal": ADMINISTRATOR, "REMOTE_ADDR": "192.0.2.7"}
        return client.open(path, method=method, data=body, environ_overrides=who)

    return ask


@pytest.fixture
def services(tmp_path):
    services = served(tmp_path)
    yield services
    services.reader.close()


@pytest.fixture
def ask(services):
    return asking(services)


@pytest.fixture(scope="module")
def ask_in_vain(tmp_path_factory):
    """Asks for what is refused: nothing comes of it, so that all such tests share a store."""
    services = served(tmp_path_factory.mktemp("refused"))
    yield asking(services)
    services.reader.close()


@pytest.fixture
def deliveries(services):
    return open_store(services.config).deliveries


def make(ask, name="erp", **wish):
    answer = ask("POST", "/v1/endpoints", {"name": name, "url": URL, **wish})
    assert answer.status_code == 201, answer.text
    return answer.json


def put(services, *bodies):
    writer = open_store(services.config).open_writer()
    writer.store([one(body, "orders") for body in bodies])
    writer.close()


def trail(ask):
    entries = ask("GET", "/v1/audit?after=0").json["audit"]
    return [(e["action"], e["target"], e["details"]) for e in entries]


def test_an_endpoint_is_made_and_its_secret_is_shown_once(ask):
    made = make(
        ask,
        topics=["orders.*"],
        where=["customer.id = 42"],
        settings={"ordered": True, "lifetime": "1d", "headers": ["X-Kind"]},
        own_headers={"Authorization": "Bearer s3cret"},
    )
    secret = made.pop("secret")
    assert standard.key_of(secret) is not None
    assert made["where"] == ["customer.id=42"]
    assert made["settings"] == {
        "ordered": True, "concurrency": 10, "rate": None, "timeout": 15, "lifetime": 86400,
        "headers": ["x-kind"],
    }  # fmt: skip
    assert (made["own_headers"], made["state"], made["reason"]) == (
        ["authorization"],
        "active",
        None,
    )
    assert made["breaker"] == {
        "state": "closed", "failures": 0, "since": None, "retry_at": None, "trouble": None,
    }  # fmt: skip
    for answer in (ask("GET", "/v1/endpoints"), ask("GET", "/v1/endpoints/erp")):
        assert answer.status_code == 200
        assert secret.removeprefix("whsec_") not in answer.text
        assert "s3cret" not in answer.text
    assert ask("GET", "/v1/endpoints").json == {"endpoints": [made]}
    assert ask("GET", "/v1/endpoints/erp").json == made
    assert trail(ask) == [("endpoint-create", "erp", "orders.* to https://9.9.9.9")]


def test_making_an_endpoint_answers_with_its_place_and_refuses_its_name_again(ask):
    wish = {"name": "erp", "url": URL}
    assert ask("POST", "/v1/endpoints", wish).headers["Location"] == "/v1/endpoints/erp"
    again = ask("POST", "/v1/endpoints", wish)
    assert (again.status_code, again.json["type"].rpartition(":")[2]) == (409, "exists")


def test_a_secret_of_ones_own_signs(ask, deliveries):
    made = make(ask, secret=SECRET.removeprefix("whsec_"), own_headers={"X-A": "b"})
    assert made["secret"] == SECRET
    (outfit,) = deliveries.outfits()
    assert (outfit.secrets, outfit.headers) == ((SECRET,), (("x-a", "b"),))


@pytest.mark.parametrize(
    ("wish", "word"),
    [
        ({"name": "a/b"}, "name:"),
        ({"url": None}, "url:"),
        ({"url": "ftp://x/"}, "url:"),
        ({"url": "https://user:pass@example.com/"}, "password"),
        ({"url": "http://localhost/"}, "APPLIANCE_DELIVER_ALLOW"),
        ({"url": "http://10.0.0.1/"}, "private"),
        ({"url": "http://169.254.169.254/latest/meta-data"}, "link-local"),
        ({"url": "http://[::ffff:127.0.0.1]/"}, "own machine"),
        ({"url": "http://0x7f.1/"}, "IPv4"),
        ({"topics": "orders"}, "topics:"),
        ({"topics": ["A B"]}, "topics:"),
        ({"topics": [[]]}, "topics:"),
        ({"where": ["nonsense"]}, "where:"),
        ({"where": [1]}, "where:"),
        ({"settings": {"speed": 1}}, "settings:"),
        ({"settings": {"concurrency": 0}}, "settings.concurrency:"),
        ({"settings": {"concurrency": True}}, "settings.concurrency:"),
        ({"settings": {"rate": "fast"}}, "settings.rate:"),
        ({"settings": {"timeout": 61}}, "settings.timeout:"),
        ({"settings": {"lifetime": "31d"}}, "settings.lifetime:"),
        ({"settings": {"headers": ["webhook-id"]}}, "webhook-id"),
        ({"own_headers": {"Host": "x"}}, "host"),
        ({"own_headers": {"X-A": "a\r\nb: c"}}, "x-a"),
        ({"secret": "short"}, "secret:"),
        ({"secret": "whsec_AAAA"}, "secret:"),
        ({"from": "yesterday"}, "from:"),
        ({"from": True}, "from:"),
        ({"from": 0}, "from:"),
        ({"from": 99}, "from: the newest"),
        ({"from": 2**64}, "from:"),
        ({"extra": 1}, "extra"),
        (b"[]", "object"),
        (b"\xff", "JSON"),
        (b"[" * 10_000, "JSON"),
    ],
)
def test_a_malformed_endpoint_is_refused_by_its_members_name(ask_in_vain, wish, word):
    asked = wish if isinstance(wish, bytes) else {"name": "erp", "url": URL, **wish}
    answer = ask_in_vain("POST", "/v1/endpoints", asked)
    assert answer.status_code == 400, answer.text
    assert word in answer.json["detail"]
    assert ask_in_vain("GET", "/v1/endpoints").json == {"endpoints": []}


def test_the_words_of_a_refused_header_do_not_hold_its_value(ask):
    asked = {"name": "erp", "url": URL, "own_headers": {"Authorization": "s3cret\n"}}
    answer = ask("POST", "/v1/endpoints", asked)
    assert answer.status_code == 400
    assert "s3cret" not in answer.text


def test_a_name_of_a_host_within_our_networks_is_refused_and_one_without_address_is_not(
    ask, monkeypatch
):
    found = {"intern.test": "10.0.0.5", "mixed.test": "9.9.9.9"}

    def getaddrinfo(host, port, **_options):
        if host not in found:
            raise socket.gaierror("no such name")
        pair = [(0, 0, 0, "", (found[host], port))]
        return pair if host == "intern.test" else [(0, 0, 0, "", ("10.0.0.5", port)), *pair]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    refused = ask("POST", "/v1/endpoints", {"name": "a", "url": "http://intern.test/"})
    assert refused.status_code == 400
    assert "10.0.0.5 is in a private" in refused.json["detail"]
    make(ask, "b", url="http://mixed.test/")
    make(ask, "c", url="http://nowhere.test/")


@pytest.mark.parametrize(
    ("start", "cursor"), [(None, 3), ("now", 3), ("beginning", 0), (2, 1), ("3", 2)]
)
def test_an_endpoint_begins_where_it_is_told(ask, services, start, cursor):
    put(services, b"a", b"b", b"c")
    made = make(ask, **({} if start is None else {"from": start}))
    assert (made["cursor"], made["behind"]) == (cursor, 3 - cursor)
    assert (made["oldest_at"] is None) == (cursor == 3)


def test_a_change_merges_settings_and_replaces_the_rest(ask, deliveries):
    make(ask, settings={"ordered": True, "rate": "5/s"}, own_headers={"X-A": "b", "X-C": "d"})
    changed = ask(
        "PATCH",
        "/v1/endpoints/erp",
        {"topics": ["a"], "settings": {"rate": None, "timeout": 5}},
    ).json
    assert (changed["topics"], changed["url"]) == (["a"], URL)
    shown = {n: changed["settings"][n] for n in ("ordered", "rate", "timeout")}
    assert shown == {"ordered": True, "rate": None, "timeout": 5}
    assert changed["own_headers"] == ["x-a", "x-c"]
    changed = ask("PATCH", "/v1/endpoints/erp", {"own_headers": {"X-E": "f"}}).json
    assert changed["own_headers"] == ["x-e"]
    assert deliveries.outfits()[0].headers == (("x-e", "f"),)
    for wrong in ({"url": "http://127.0.0.1/"}, {"name": "b"}, {"settings": {"timeout": 0}}):
        assert ask("PATCH", "/v1/endpoints/erp", wrong).status_code == 400
    assert [entry[0] for entry in trail(ask)] == ["endpoint-create", *["endpoint-update"] * 2]


def test_an_endpoint_is_paused_resumed_and_removed(ask):
    make(ask)
    paused = ask("POST", "/v1/endpoints/erp/pause", {"reason": "it moves"}).json
    assert (paused["state"], paused["reason"]) == ("paused", "it moves")
    assert ask("POST", "/v1/endpoints/erp/pause").json["reason"] == "by administrator"
    resumed = ask("POST", "/v1/endpoints/erp/resume").json
    assert (resumed["state"], resumed["reason"]) == ("active", None)
    for wrong in ({"reason": "x" * 201}, {"reason": "\x1b[31m"}, {"reason": 1}):
        assert ask("POST", "/v1/endpoints/erp/pause", wrong).status_code == 400
    assert ask("DELETE", "/v1/endpoints/erp").status_code == 204
    assert [entry[0] for entry in trail(ask)] == [
        "endpoint-create", "endpoint-pause", "endpoint-pause", "endpoint-resume", "endpoint-remove",
    ]  # fmt: skip


def test_a_new_secret_is_shown_once_and_the_one_before_signs_for_a_day(ask, deliveries):
    first = make(ask)["secret"]
    rotated = ask("POST", "/v1/endpoints/erp/rotate").json
    (outfit,) = deliveries.outfits()
    assert outfit.secrets == (rotated["secret"], first)
    secrets = ask("GET", "/v1/endpoints/erp").json["secrets"]
    assert {each["id"]: each["expires_at"] for each in secrets} == {
        rotated["id"]: None,
        min(each["id"] for each in secrets): rotated["old_until"],
    }
    at_once = ask("POST", "/v1/endpoints/erp/rotate", {"secret": SECRET, "old_for": "0s"}).json
    time.sleep(0.002)  # the end of the others is now, to the millisecond
    assert deliveries.outfits()[0].secrets == (SECRET,)
    for wrong in ({"old_for": "soon"}, {"secret": ""}, {"secret": 1}):
        assert ask("POST", "/v1/endpoints/erp/rotate", wrong).status_code == 400
    last = f"/v1/endpoints/erp/secrets/{at_once['id']}"
    assert ask("DELETE", last).status_code == 409
    other = ask("POST", "/v1/endpoints/erp/rotate").json["id"]
    assert ask("DELETE", last).status_code == 204
    for gone in (at_once["id"], 0, 2**70):
        assert ask("DELETE", f"/v1/endpoints/erp/secrets/{gone}").status_code == 404
    assert other in [each["id"] for each in ask("GET", "/v1/endpoints/erp").json["secrets"]]
    assert SECRET.removeprefix("whsec_") not in json.dumps(trail(ask))


@pytest.mark.parametrize(
    ("method", "path", "asked"),
    [
        ("GET", "", None),
        ("PATCH", "", {}),
        ("DELETE", "", None),
        ("POST", "/pause", None),
        ("POST", "/resume", None),
        ("POST", "/rotate", None),
        ("DELETE", "/secrets/1", None),
        ("GET", "/deliveries", None),
        ("GET", "/undelivered", None),
        ("POST", "/redrive", {"all": True}),
        ("POST", "/discard", {"all": True}),
        ("DELETE", "/undelivered/1", None),
    ],
)
def test_an_endpoint_that_is_not_there_is_not_found(ask_in_vain, method, path, asked):
    assert ask_in_vain(method, f"/v1/endpoints/nobody{path}", asked).status_code == 404
    assert ask_in_vain(method, f"/v1/endpoints/nobody{path}?extra=1", asked).status_code == 400
    assert trail(ask_in_vain) == []


def test_the_state_of_an_endpoint_tells_of_breaker_and_backlog(ask, services, deliveries):
    put(services, b"a", b"b")
    make(ask, **{"from": "beginning"})
    (outfit,) = deliveries.outfits()
    standing = EndpointStanding(
        cursor=1, failures=7, broken_at=1e9, retry_at=2e9, trouble="no answer", delivered=5,
        failed=9, given_up=1, delivered_at=NOW,
    )  # fmt: skip
    deliveries.store(
        DeliveryOutcome(
            standings={outfit.row.id: standing},
            due=[due(outfit.row.id, "waiting", 1), due(outfit.row.id, "gone", 2)],
            lanes=[LaneRow(outfit.row.id, "orders", 1, 1, 1e9, 2e9, "no answer")],
        )
    )
    shown = ask("GET", "/v1/endpoints/erp").json
    assert shown["breaker"] == {
        "state": "open", "failures": 7, "since": "2001-09-09T01:46:40.000Z",
        "retry_at": "2033-05-18T03:33:20.000Z", "trouble": "no answer",
    }  # fmt: skip
    assert shown["undelivered"] == {"waiting": 1, "given_up": 0, "gone": 1, "held_topics": 1}
    assert shown["totals"] == {"delivered": 5, "failed_attempts": 9, "given_up": 1, "gone": 0}
    assert (shown["behind"], shown["delivered_at"]) == (1, NOW)


def test_attempts_are_paged_and_narrowed_to_a_message_and_to_failures(ask, services, deliveries):
    put(services, b"a", b"b")
    ids = [row.id for row in deliveries.messages([1, 2])]
    make(ask)
    number = deliveries.outfits()[0].row.id
    tried = [attempt(number, 1, "answered 500", ids[0], status=500, answer="<b>no</b>")]
    tried += [attempt(number, 2, message_id=ids[1]) for _ in range(3)]
    deliveries.store(DeliveryOutcome(attempts=tried))
    path = "/v1/endpoints/erp/deliveries"
    page = ask("GET", f"{path}?limit=3").json
    assert [each["seq"] for each in page["deliveries"]] == [2, 2, 2]
    assert page["deliveries"][0]["error"] is None
    rest = ask("GET", page["next_url"]).json
    assert rest["next"] is None
    (failed,) = rest["deliveries"]
    assert failed == ask("GET", f"{path}?failed=true").json["deliveries"][0]
    assert (failed["status"], failed["answer"]) == (500, "<b>no</b>")
    assert "endpoint" not in failed
    of_one = ask("GET", f"{path}?message={ids[1]}").json["deliveries"]
    assert {each["message_id"] for each in of_one} == {ids[1]}
    later = ask("GET", f"{path}?after={page['newest']}").json
    assert later["deliveries"] == []
    for wrong in ("failed=yes", "message=1", "limit=0", "after=x", "state=any"):
        assert ask("GET", f"{path}?{wrong}").status_code == 400


def test_undelivered_messages_are_listed_by_state_redriven_and_discarded(ask, deliveries):
    make(ask)
    number = deliveries.outfits()[0].row.id
    states = ["given-up", "given-up", "given-up", "waiting", "gone"]
    rows = [due(number, state, seq) for seq, state in enumerate(states, 1)]
    deliveries.store(DeliveryOutcome(due=rows))
    path = "/v1/endpoints/erp/undelivered"

    def listed(state):
        return [each["id"] for each in ask("GET", f"{path}?state={state}").json["undelivered"]]

    everything = listed("any")
    given_up = listed("given-up")
    assert len(everything) == 5
    assert len(given_up) == 3
    (waiting,) = ask("GET", f"{path}?state=waiting").json["undelivered"]
    assert (waiting["due_at"], waiting["attempts"]) == ("2033-05-18T03:33:20.000Z", 3)
    first = ask("GET", f"{path}?limit=4").json
    assert [e["id"] for e in ask("GET", first["next_url"]).json["undelivered"]] == everything[4:]

    one = ask("POST", "/v1/endpoints/erp/redrive", {"ids": [given_up[0], waiting["id"], 99]})
    assert one.json == {"name": "erp", "redriven": 1}
    assert ask("POST", "/v1/endpoints/erp/redrive", {"all": True}).json["redriven"] == 2
    assert listed("given-up") == []
    assert ask("DELETE", f"{path}/{given_up[0]}").status_code == 204
    assert ask("DELETE", f"{path}/{given_up[0]}").status_code == 404
    discard = ask("POST", "/v1/endpoints/erp/discard", {"ids": [given_up[1]]})
    assert discard.json == {"name": "erp", "discarded": 1}
    assert ask("POST", "/v1/endpoints/erp/discard", {"all": True}).json["discarded"] == 1
    assert len(listed("any")) == 2
    assert ask("GET", f"{path}?state=lost").status_code == 400
    assert [entry[0] for entry in trail(ask)] == [
        "endpoint-create", *["endpoint-redrive"] * 2, *["endpoint-discard"] * 3,
    ]  # fmt: skip


def test_a_call_that_does_not_say_which_messages_changes_nothing(ask, deliveries):
    make(ask)
    number = deliveries.outfits()[0].row.id
    deliveries.store(DeliveryOutcome(due=[due(number)]))
    for asked in (
        None, {}, {"all": False}, {"ids": [1], "all": True}, {"ids": []}, {"ids": [0]},
        {"ids": ["1"]}, {"ids": [True]}, {"ids": [2**63]}, {"ids": [1] * 1001}, {"ids": [[]]},
    ):  # fmt: skip
        for action in ("redrive", "discard"):
            answer = ask("POST", f"/v1/endpoints/erp/{action}", asked)
            assert (answer.status_code, "ids" in answer.json["detail"]) == (400, True), asked
    (kept,) = ask("GET", "/v1/endpoints/erp/undelivered").json["undelivered"]
    assert kept["state"] == "given-up"


def test_settings_that_sql_made_nonsense_are_shown_as_they_are(ask, services):
    make(ask)
    with closing(sqlite3.connect(open_store(services.config).path)) as connection, connection:
        connection.execute("""UPDATE endpoints SET settings = '{"timeout": "long"}'""")
        connection.execute("UPDATE endpoints SET broken_at = 1e300")
    shown = ask("GET", "/v1/endpoints/erp").json
    assert shown["settings"] == {"timeout": "long"}
    assert shown["breaker"]["since"] is None
