"""The console's topics: sorted, filtered, paged; and their inbox addresses."""

import html
import re
import time

import pytest
from console_client import ConsoleClient
from store_contents import letter, many, one

from appliance import config as configuration
from appliance.auth.snapshot import hashed
from appliance.console.qr_code import qr_code
from appliance.model import timestamps
from appliance.store.access_rows import Actor

PAGE = "/console/topics"


@pytest.fixture
def client(tmp_path):
    client = ConsoleClient(
        configuration.load(
            {
                "APPLIANCE_DATA": str(tmp_path),
                "APPLIANCE_MIN_FREE_BYTES": "0",
                "APPLIANCE_RETENTION": "logs.*: age=7d; *: keep",
            }
        )
    )
    client.sign_in()
    yield client
    client.close()


def store(client, *contents):
    writer = client.store.open_writer()
    writer.store(contents)
    writer.close()


def listed(page):
    return re.findall(r'<th scope="row" class="mono"><a [^>]*>([^<]+)</a>', page)


def sign_in_as(client, *rights, topics=("*",)):
    _, secret = client.services.tokens.create(
        "someone", list(rights), Actor("test", ""), topics=list(topics)
    )
    client.browser.delete_cookie("appliance_session")
    client.sign_in(secret)


def send(client, path, **fields):
    csrf = re.search(r'name="csrf" value="(\w+)"', client.get("/console/help").text)[1]
    return client.post(path, {"csrf": csrf, **fields})


def test_an_empty_list_says_how_a_topic_begins(client):
    assert "A topic begins with its first message" in client.get(PAGE).text


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", ["a", "b", "logs.c"]),
        ("?sort=topic&order=desc", ["logs.c", "b", "a"]),
        ("?sort=messages", ["b", "a", "logs.c"]),
        ("?sort=messages&order=asc", ["a", "logs.c", "b"]),
        ("?sort=bytes", ["logs.c", "b", "a"]),
        ("?sort=last", ["a", "b", "logs.c"]),
        ("?part=c", ["logs.c"]),
        ("?part=LOGS.", ["logs.c"]),
        ("?part=%25", []),
        ("?part=zzz", []),
    ],
)
def test_topics_are_sorted_and_filtered_as_asked(client, query, names):
    store(client, one(b"x", "a"), many([b"y"] * 3, "b"), one(b"z" * 99, "logs.c"))
    assert listed(client.get(PAGE + query).text) == names


@pytest.mark.parametrize("sort", ["topic", "messages", "bytes", "last"])
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_of_topics_follow_each_other_without_gap_or_repeat(client, sort, order):
    store(client, *(one(b"x" * (1 + n % 3), f"t{n:03}") for n in range(250)))
    path, seen = f"{PAGE}?sort={sort}&order={order}", []
    while path:
        page = client.get(path).text
        seen += listed(page)
        following = re.search(r'rel="next" href="([^"]+)"', page)
        path = html.unescape(following[1]) if following else None
    assert sorted(seen) == [f"t{n:03}" for n in range(250)]


@pytest.mark.parametrize("query", ["sort=x", "after=x", "sort=bytes&after=x~a", "after=%F0%9F~"])
def test_a_damaged_address_is_said_in_words_or_is_an_empty_list(client, query):
    assert client.get(f"{PAGE}?{query}").status_code in (200, 400)


def test_a_topic_that_came_regularly_and_stopped_is_marked(client):
    now = time.time()
    for n in range(20):
        at = timestamps.timestamp(now - 90_000 + n)
        store(client, one(b"x", "stopped", at))
    store(client, *(one(b"x", "lives", timestamps.timestamp(now - n)) for n in range(20)))
    store(client, one(b"x", "rare", timestamps.timestamp(now - 90_000)))
    page = client.get(PAGE).text
    assert page.count("silent for") == 1
    assert re.search(r"stopped</a>.*?silent for", page, re.DOTALL)


def test_topics_show_their_rule_and_their_dead_letters(client):
    store(client, one(b"x", "logs.a"), one(b"x", "b"), letter(b"y", "b"))
    page = client.get(PAGE).text
    assert "7 d" in page
    assert f"{'/console/dead-letters?topic=b'}" in page


def test_a_token_for_some_topics_sees_no_other_one(client):
    store(client, one(b"x", "a.x"), one(b"x", "b.x"))
    sign_in_as(client, "read", topics=["a.*"])
    page = client.get(PAGE).text
    assert listed(page) == ["a.x"]
    assert "addresses" not in page.lower()


def test_an_address_is_made_shown_once_and_counts(client):
    page = send(client, f"{PAGE}/hooks/addresses", kind="open", name="till").text
    secret = re.search(r"/in/([\w-]{43})", page)[1]
    assert "This is shown once" in page
    assert "curl -d" in page
    assert 'aria-label="QR code of the address"' in page
    assert client.authorizer.inbox(secret).topic == "hooks"
    again = client.get(f"{PAGE}/hooks/addresses").text
    assert "till" in again
    assert secret not in again
    assert all(key.digest == hashed(secret.encode()) for key in client.store.access.rows().inboxes)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"kind": "github"}, "secret"),
        ({"kind": "nonsense"}, "kind"),
        ({"kind": "open", "name": "a/b"}, "name"),
    ],
)
def test_an_address_that_cannot_be_made_is_refused_in_words(client, fields, words):
    page = send(client, f"{PAGE}/hooks/addresses", **fields).text
    assert words in re.search(r'role="alert">([^<]+)<', page)[1]
    assert client.store.access.inboxes() == []


@pytest.mark.parametrize("topic", ["Not%20A%20Topic", "..", "%3Cscript%3E", "x" * 200])
def test_a_name_that_is_no_topic_has_no_addresses(client, topic):
    assert client.get(f"{PAGE}/{topic}/addresses").status_code == 404


def test_an_address_is_revoked_once_its_name_is_typed(client):
    send(client, f"{PAGE}/hooks/addresses", kind="open", name="till")
    assert "Type its name" in send(client, "/console/addresses/revoke", name="till").text
    wrong = send(client, "/console/addresses/revoke", name="till", typed="tilt").text
    assert "Nothing was revoked" in wrong
    assert client.store.access.inbox("till") is not None
    assert send(client, "/console/addresses/revoke", name="till", typed="till").status_code == 303
    assert client.store.access.inbox("till") is None
    assert send(client, "/console/addresses/revoke", name="till").status_code == 404


def test_a_token_that_reads_neither_sees_nor_makes_addresses(client):
    sign_in_as(client, "read")
    assert client.get(f"{PAGE}/hooks/addresses").status_code == 403
    assert send(client, f"{PAGE}/hooks/addresses", kind="open").status_code == 403
    assert send(client, "/console/addresses/revoke", name="x", typed="x").status_code == 403


def test_a_qr_code_has_the_modules_of_its_library_in_a_white_border():
    import segno

    text = "https://inbox.example.com/in/" + "a" * 43
    code, matrix = qr_code(text), segno.make(text, micro=False).matrix
    drawn = {tuple(map(int, each)) for each in re.findall(r"M(\d+) (\d+)h1", code.path)}
    dark = {
        (x + 4, y + 4) for y, row in enumerate(matrix) for x, module in enumerate(row) if module
    }
    assert drawn == dark
    assert code.side == len(matrix) + 8
