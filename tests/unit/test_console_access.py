"""The console's access pages: tokens, sessions and the audit trail, for administrators."""

import csv
import io
import re

import pytest
from console_client import ConsoleClient

from appliance import config as configuration
from appliance.store.access_rows import Actor, Deed

PAGE = "/console/access"
PAGES = ["", "/inboxes", "/sessions", "/audit", "/audit.csv"]


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


@pytest.mark.parametrize("path", PAGES)
def test_pages_of_access_are_for_administrators(client, path):
    assert client.get(PAGE + path).status_code == 200
    _, secret = client.services.tokens.create("reader", ["read"], Actor("test", ""))
    client.browser.delete_cookie("appliance_session")
    client.sign_in(secret)
    assert client.get(PAGE + path).status_code == 403
    for action in ("", "/revoke", "/sessions/end"):
        assert send(client, action, name="reader", typed="reader").status_code == 403
    assert [each.name for each in client.services.tokens.list_tokens()] == ["reader"]


def test_a_token_is_made_shown_once_and_counts(client):
    page = send(client, name="till", right=["publish"], topics="orders.*, carts", rate="100/m").text
    secret = re.search(r'id="secret"[^>]*>(qa_[\w-]+)<', page)[1]
    principal = client.authorizer.principal(f"Bearer {secret}".encode())
    assert (principal.name, principal.topics) == ("till", ("orders.*", "carts"))
    assert f"Bearer {secret}" in page
    again = client.get(PAGE).text
    assert "till" in again
    assert secret not in again


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"name": "a/b", "right": "read"}, "name"),
        ({"name": "a"}, "rights"),
        ({"name": "a", "right": "everything"}, "rights"),
        ({"name": "a", "right": "read", "topics": "A B"}, "topics"),
        ({"name": "a", "right": "read", "expires": "yesterday"}, "expires"),
        ({"name": "a", "right": "read", "rate": "fast"}, "rate"),
    ],
)
def test_a_token_that_cannot_be_made_is_refused_in_words_and_the_form_stays(client, fields, word):
    page = send(client, **fields).text
    assert word in re.search(r'role="alert">([^<]+)<', page)[1]
    assert f'name="name" value="{fields["name"]}"' in page
    assert client.services.tokens.list_tokens() == []


def test_a_token_is_revoked_once_its_name_is_typed(client):
    send(client, name="till", right="publish")
    assert "Type its name" in send(client, "/revoke", name="till").text
    assert "Nothing was revoked" in send(client, "/revoke", name="till", typed="x").text
    assert len(client.services.tokens.list_tokens()) == 1
    assert send(client, "/revoke", name="till", typed="till").status_code == 303
    assert client.services.tokens.list_tokens() == []
    assert send(client, "/revoke", name="till", typed="till").status_code == 404


def test_a_session_of_someone_else_is_ended_and_the_own_one_is_named(client):
    other = client.app.test_client()
    mine, client.browser = client.browser, other
    client.sign_in()
    assert client.get("/console/").status_code == 200
    client.browser = mine
    page = client.get(f"{PAGE}/sessions").text
    assert "this one" in page
    (digest,) = re.findall(r'name="session" value="(\w+)"', page)
    assert send(client, "/sessions/end", session=digest).status_code == 303
    assert other.get("/console/").status_code == 303
    assert client.get("/console/").status_code == 200
    for wrong in (digest, "", "x", "00"):
        assert send(client, "/sessions/end", session=wrong).status_code == 404


def test_the_audit_trail_is_paged_and_saved_whole_and_safe_for_a_spreadsheet(client):
    access = client.services.access
    for n in range(250):
        access.record(Deed(Actor("=cmd()", ""), "test", str(n), "<script>" if n == 249 else ""))
    page = client.get(f"{PAGE}/audit").text
    assert "&lt;script&gt;" in page
    older = re.search(r'rel="next" href="([^"]+)"', page)[1]
    assert ">149<" in client.get(older).text
    table = list(csv.reader(io.StringIO(client.get(f"{PAGE}/audit.csv").text)))
    assert table[0] == ["seq", "at", "who", "address", "action", "target", "details"]
    assert [row[5] for row in table if row[4] == "test"] == [str(n) for n in range(249, -1, -1)]
    assert {row[2] for row in table if row[4] == "test"} == {"'=cmd()"}
    assert client.get(f"{PAGE}/audit?before=x").status_code == 200


def test_a_topic_leads_to_its_addresses(client):
    answer = client.get(f"{PAGE}/inboxes?topic=hooks")
    assert answer.headers["Location"] == "/console/topics/hooks/addresses"


@pytest.mark.parametrize(("path", "what"), [("", "token"), ("/inboxes", "inbox address")])
def test_a_long_list_of_names_comes_in_pages(client, path, what):
    by = Actor("test", "")
    for n in range(101):
        if path:
            client.services.inboxes.create("orders", "open", by, name=f"door-{n:03}")
        else:
            client.services.tokens.create(f"door-{n:03}", ["read"], by)
    first = client.get(PAGE + path).text
    assert (">door-099<" in first, ">door-100<" in first) == (True, False)
    assert f"101 {what}" in first
    further = client.get(re.search(r'rel="next" href="([^"]+)"', first)[1]).text
    assert re.findall(r">(door-\d+)<", further) == ["door-100"]
    assert 'rel="next"' not in further
    back = re.search(r'href="([^"]+)">\u2039 the first', further)[1]
    assert ">door-000<" in client.get(back).text


def test_a_page_beyond_the_last_name_is_empty(client):
    client.services.tokens.create("door", ["read"], Actor("test", ""))
    assert "There are no further ones." in client.get(f"{PAGE}?after=zzz").text
