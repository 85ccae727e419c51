"""The console's pages of endpoints: made, steered, redriven; what a receiver answers is text."""

import re

import pytest
from console_client import ConsoleClient
from delivery_rows import URL, attempt, due
from store_contents import one

from appliance import config as configuration
from appliance.auth.signatures import standard
from appliance.operations.endpoint_trial import EndpointTried
from appliance.store.access_rows import Actor
from appliance.store.endpoint_rows import DeliveryOutcome, EndpointStanding, LaneRow
from appliance.store.rows import Span

PAGE = "/console/endpoints"
HOSTILE = "</td><script>alert(1)</script>\x1b[31m\u202e"


@pytest.fixture
def client(tmp_path):
    client = ConsoleClient(
        configuration.load({"APPLIANCE_DATA": str(tmp_path), "APPLIANCE_MIN_FREE_BYTES": "0"})
    )
    client.sign_in()
    yield client
    client.close()


def send(client, path="", **fields):
    csrf = re.search(r'name="csrf" value="(\w+)"', client.get("/console/help").text)[1]
    return client.post(f"{PAGE}{path}", {"csrf": csrf, **fields})


def made(client, name="erp"):
    """Make an endpoint; return its number."""
    client.services.endpoint_desk.create(name, {"url": URL}, Actor("test", ""))
    return client.services.endpoints.find(name).id


def states(client):

    rows = client.services.endpoints.due("erp", None, Span(), 100)
    return {row.id: row.state for row in reversed(rows)}


def test_pages_of_endpoints_are_for_administrators(client):
    made(client)
    for path in ("", "/erp"):
        assert client.get(PAGE + path).status_code == 200
    assert f'href="{PAGE}"' in client.get("/console/").text
    _, secret = client.services.tokens.create("reader", ["read"], Actor("test", ""))
    client.browser.delete_cookie("appliance_session")
    client.sign_in(secret)
    assert f'href="{PAGE}"' not in client.get("/console/").text
    for path in ("", "/erp"):
        assert client.get(PAGE + path).status_code == 403
    for action in ("", "/erp/pause", "/erp/resume", "/erp/rotate", "/erp/remove", "/erp/redrive",
                   "/erp/change", "/erp/test"):  # fmt: skip
        assert send(client, action, name="x", url=URL, typed="erp").status_code == 403
    assert client.services.endpoints.find("erp").state == "active"


def test_an_endpoint_is_made_and_its_secret_is_shown_once(client):
    assert "There is none yet." in client.get(PAGE).text
    page = send(
        client, name="erp", url=URL, topics="orders.*, carts", where="total>=1\n\n a exists ",
        ordered="true", rate="5/s", lifetime="1d", authorization="Bearer s3cret", **{"from": "now"},
    ).text  # fmt: skip
    secret = re.search(r'id="secret"[^>]*>(whsec_[^<]+)<', page)[1].replace("&#43;", "+")
    assert standard.key_of(secret) is not None
    (outfit,) = client.store.deliveries.outfits()
    assert outfit.secrets == (secret,)
    assert outfit.headers == (("authorization", "Bearer s3cret"),)
    assert (outfit.row.topics, outfit.row.where) == (
        ("orders.*", "carts"),
        ("total>=1", "a exists"),
    )
    assert outfit.row.settings == {"ordered": True, "rate": "5/s", "lifetime": "1d"}
    for path in ("", "/erp"):
        text = client.get(PAGE + path).text
        assert secret not in text
        assert "s3cret" not in text


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"name": "a/b"}, "name"),
        ({"url": "http://127.0.0.1/"}, "APPLIANCE_DELIVER_ALLOW"),
        ({"topics": "A_B!"}, "topics"),
        ({"where": "nonsense"}, "where"),
        ({"rate": "fast"}, "rate"),
        ({"lifetime": "for ever"}, "lifetime"),
        ({"authorization": "\u202e"}, "own_headers"),
        ({"from": "never"}, "from"),
    ],
)
def test_an_endpoint_that_cannot_be_made_is_refused_in_words_and_the_form_stays(
    client, fields, word
):
    page = send(client, **{"name": "erp", "url": URL, **fields}).text
    assert word in re.search(r'role="alert">([^<]+)<', page)[1]
    for name in ("topics", "rate", "lifetime"):
        assert f'name="{name}" value="{fields.get(name, "")}"' in page
    assert client.services.endpoints.all() == []


def test_an_endpoint_is_paused_resumed_rotated_and_removed(client):
    made(client)
    assert send(client, "/erp/pause", reason="it <moves>").status_code == 303
    assert "it &lt;moves&gt;" in client.get(f"{PAGE}/erp").text
    assert "paused" in client.get(PAGE).text
    assert "reason" in re.search(
        r'role="alert">([^<]+)<', send(client, "/erp/pause", reason="x" * 201).text
    )[1]  # fmt: skip
    assert send(client, "/erp/resume").status_code == 303
    first = client.store.deliveries.outfits()[0].secrets
    page = send(client, "/erp/rotate").text
    secret = re.search(r'id="secret"[^>]*>(whsec_[^<]+)<', page)[1].replace("&#43;", "+")
    assert client.store.deliveries.outfits()[0].secrets == (secret, *first)
    send(client, "/erp/rotate", at_once="true")
    assert client.services.endpoints.find("erp").signing_secrets[0].id
    assert "Type its name" in send(client, "/erp/remove").text
    assert "Nothing was removed" in send(client, "/erp/remove", typed="x").text
    assert client.services.endpoints.find("erp") is not None
    assert send(client, "/erp/remove", typed="erp").status_code == 303
    assert client.services.endpoints.all() == []
    for action in ("", "/pause", "/resume", "/rotate", "/remove", "/redrive", "/discard"):
        answer = send(client, f"/erp{action}") if action else client.get(f"{PAGE}/erp")
        assert answer.status_code == 404, action


def test_how_an_endpoint_stands_is_shown_and_what_it_answers_is_text(client):
    number = made(client)
    standing = EndpointStanding(
        cursor=0, failures=7, broken_at=1e9, retry_at=2e9, trouble=HOSTILE, delivered=1234
    )
    bad = attempt(number, error=HOSTILE, answer=HOSTILE, status=500, topic=HOSTILE)
    client.store.deliveries.store(
        DeliveryOutcome(
            attempts=[bad, attempt(number, 2, status=204)],
            due=[due(number, "given-up", 1, error=HOSTILE, message_id=HOSTILE, topic=HOSTILE)],
            standings={number: standing},
            lanes=[LaneRow(number, "orders", 1, 1, 1e9, 2e9, HOSTILE)],
        )
    )
    page = client.get(f"{PAGE}/erp").text
    for text in (page, client.get(PAGE).text):
        assert "alert(1)" in text
        assert "<script>alert" not in text
    for words in ("2001-09-09 01:46:40.000", "2033-05-18", "1,234", "Held up", "✓ 204", "given up"):
        assert words in page
    assert "! fails" in client.get(PAGE).text
    failed = client.get(f"{PAGE}/erp?failed=true").text
    assert "✓ 204" not in failed
    assert send(client, "/erp/resume").status_code == 303
    assert "It is active" in client.get(f"{PAGE}/erp").text


def test_undelivered_messages_are_marked_redriven_and_discarded(client):
    number = made(client)
    kinds = ["given-up"] * 3 + ["waiting", "gone"]
    client.store.deliveries.store(
        DeliveryOutcome(due=[due(number, kind, seq) for seq, kind in enumerate(kinds, 1)])
    )
    page = client.get(f"{PAGE}/erp?state=given-up").text
    ids = re.findall(r'type="checkbox" name="id" value="(\d+)"', page)
    assert len(ids) == 3
    back = send(client, "/erp/redrive", id=ids[0]).headers["Location"]
    assert "1 message is tried again" in client.get(back).text
    assert list(states(client).values()).count("given-up") == 2
    assert "1 undelivered message?" in send(client, "/erp/discard", id=ids[1]).text
    assert len(states(client)) == 5
    back = send(client, "/erp/discard", id=ids[1], sure="true").headers["Location"]
    assert "1 message is discarded" in client.get(back).text
    assert "2 undelivered messages?" in send(client, "/erp/discard", every="true").text
    send(client, "/erp/discard", every="true", sure="true")
    assert sorted(states(client).values()) == ["waiting", "waiting"]
    back = send(client, "/erp/redrive", every="true").headers["Location"]
    assert "0 messages are tried again" in client.get(back).text
    for wrong in ({}, {"id": "x"}, {"id": "0"}, {"id": "9" * 30}):
        assert send(client, "/erp/redrive", **wrong).status_code == 400


def test_discarding_many_wants_their_number_typed(client):
    number = made(client)
    client.store.deliveries.store(
        DeliveryOutcome(due=[due(number, seq=seq) for seq in range(1, 13)])
    )
    asked = send(client, "/erp/discard", every="true", sure="true").text
    assert "Type their number, 12" in asked
    assert "Nothing was discarded" in send(
        client, "/erp/discard", every="true", sure="true", typed="11"
    ).text  # fmt: skip
    assert len(states(client)) == 12
    send(client, "/erp/discard", every="true", sure="true", typed="12")
    assert states(client) == {}


def test_long_lists_of_an_endpoint_come_in_pages(client):
    number = made(client)
    client.store.deliveries.store(
        DeliveryOutcome(
            attempts=[attempt(number, seq, message_id=f"a{seq:03}") for seq in range(1, 61)],
            due=[due(number, seq=seq, message_id=f"d{seq:03}") for seq in range(1, 61)],
        )
    )
    first = client.get(f"{PAGE}/erp").text
    older = [link.replace("&amp;", "&") for link in re.findall(r'rel="next" href="([^"]+)"', first)]
    assert (">d060<" in first, ">d010<" in first) == (True, False)
    assert ">d010<" in client.get(older[0]).text
    page = client.get(older[1]).text
    assert (">a010<" in page, ">a011<" in page) == (True, False)
    assert ">a060<" in client.get(re.search(r'href="([^"]+)">\u2039 the newest', page)[1]).text
    for wrong in ("due=x", "before=-1", "state=lost", "redriven=many"):
        assert client.get(f"{PAGE}/erp?{wrong}").status_code == 200


def test_the_page_of_a_message_says_to_an_administrator_where_it_went(client):
    number = made(client)
    writer = client.store.open_writer()
    writer.store([one(b"x", "orders")])
    writer.close()
    (row,) = client.store.deliveries.messages([1])
    tried = [
        attempt(number, 1, HOSTILE, row.id, status=500),
        attempt(number, 1, "", row.id, attempt=2),
        attempt(number + 1, 1, "of an endpoint that is removed", row.id),
    ]
    client.store.deliveries.store(DeliveryOutcome(attempts=tried))
    page = client.get(f"/console/messages/{row.id}").text
    assert f'href="{PAGE}/erp"' in page
    assert "✓ 200" in page
    assert "<script>alert" not in page
    assert "that is removed" not in page
    _, secret = client.services.tokens.create("reader", ["read"], Actor("test", ""))
    client.browser.delete_cookie("appliance_session")
    client.sign_in(secret)
    page = client.get(f"/console/messages/{row.id}").text
    assert "orders" in page
    assert "✓ 200" not in page


def test_an_endpoint_is_changed_by_a_form_that_says_how_it_is(client):
    number = made(client)
    page = client.get(f"{PAGE}/erp").text
    assert f'name="url" type="url" value="{URL}"' in page
    assert '<details class="card">' in page
    fields = {"url": "https://example.com/new", "topics": "a.* b", "where": "x>1", "rate": "5/s"}
    assert send(client, "/erp/change", **fields, lifetime="1d").status_code == 303
    row = client.services.endpoints.find("erp")
    assert (row.id, row.url, row.topics, row.where) == (
        number, "https://example.com/new", ("a.*", "b"), ("x>1",),
    )  # fmt: skip
    assert send(client, "/erp/change", url=URL, authorization="Bearer s3cret").status_code == 303
    row = client.services.endpoints.find("erp")
    assert (row.topics, row.where, row.settings) == (("*",), (), {"ordered": False})
    assert row.own_headers == ("authorization",)
    assert send(client, "/erp/change", url=URL).status_code == 303
    assert client.services.endpoints.find("erp").own_headers == ("authorization",)


def test_a_change_that_can_not_be_is_refused_in_words_and_the_form_stays(client):
    made(client)
    page = send(client, "/erp/change", url="http://127.0.0.1/", rate="7/s").text
    assert "APPLIANCE_DELIVER_ALLOW" in re.search(r'role="alert">([^<]+)<', page)[1]
    assert 'value="7/s"' in page
    assert '<details class="card" open>' in page
    assert client.services.endpoints.find("erp").url == URL


def test_other_headers_of_an_endpoint_are_not_lost_by_the_form(client):
    wish = {"url": URL, "own_headers": {"x-key": "1"}}
    client.services.endpoint_desk.create("erp", wish, Actor("test", ""))
    page = send(client, "/erp/change", url=URL, authorization="Bearer s3cret").text
    assert "own_headers" in re.search(r'role="alert">([^<]+)<', page)[1]
    assert client.services.endpoints.find("erp").own_headers == ("x-key",)


def test_a_test_of_an_endpoint_shows_the_answer_as_text(client, monkeypatch):
    made(client)
    tried = EndpointTried("an-id", 500, "answered 500", HOSTILE, 41)
    monkeypatch.setattr(client.services.endpoint_desk, "test", lambda *_: tried)
    page = send(client, "/erp/test").text
    assert "answered 500" in page
    assert "<script>alert" not in page
