"""Lists narrowed down: suggested columns, facets of the newest messages, saved searches."""

import html
import json
import re
from urllib.parse import parse_qs, urlencode

import pytest
from console_client import ConsoleClient
from store_contents import many

from appliance import config as configuration
from appliance.console.facets import facets
from appliance.console.saved_searches import (
    MOST,
    cookie_of,
    saved_search,
    searches_in,
    with_search,
    without_search,
)
from appliance.console.suggestions import Suggestions
from appliance.errors import InputError
from appliance.store.access_rows import Actor
from appliance.store.filters import MessageFilter

PAGE = "/console/topics/t"


@pytest.fixture
def client(tmp_path):
    client = ConsoleClient(
        configuration.load({"APPLIANCE_DATA": str(tmp_path), "APPLIANCE_MIN_FREE_BYTES": "0"})
    )
    client.writer = client.store.open_writer()
    client.sign_in()
    yield client
    client.writer.close()
    client.close()


def store(client, *documents, topic="t"):
    bodies = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in documents]
    client.writer.store([many(bodies, topic)])


def links(text, within):
    """The links of a part of a page: what each says, and the query that it leads to."""
    found = re.search(within, text, re.DOTALL)
    pairs = re.findall(r'<a [^>]*href="([^"]*)"[^>]*>(.*?)</a>', found[0] if found else "")
    return {
        html.unescape(re.sub(r"<[^>]+>", "", label)): html.unescape(url) for url, label in pairs
    }


def offered(text):
    return links(text, r'aria-label="Columns".*?</ul>')


def rows(text):
    return re.findall(r'<tr data-row id="m-([^"]+)"', text)


def send(client, **fields):
    return client.post("/console/searches", client.form("/console/help") | fields)


def wanted(**filters):
    return MessageFilter(topics=("t",), **filters)


# --- columns


def test_columns_that_most_messages_have_are_suggested_and_one_click_adds_them(client):
    store(
        client,
        *({"device": f"d-{n}", "at": {"temp": n}, "tags": [n], "a,b": 1} for n in range(7)),
        {"device": "d", "rare": 1},
        b"\xff\xfe",
        b"text",
    )
    text = client.get(f"{PAGE}?since=1d&before=MTk5").text
    assert list(offered(text)) == ["+ device", "+ at.temp"]
    assert "most of the newest 10 have" in text
    query = offered(text)["+ device"]
    assert parse_qs(query.lstrip("?")) == {"since": ["1d"], "cols": ["device"]}
    text = client.get(f"{PAGE}?cols=device").text
    assert list(offered(text)) == ["\u00d7", "+ at.temp"]
    assert offered(text)["\u00d7"] == "?"
    assert parse_qs(offered(text)["+ at.temp"].lstrip("?")) == {"cols": ["device,at.temp"]}
    assert offered(client.get("/console/messages").text) == {}
    assert "+ device" in offered(client.get("/console/messages?topic=t").text)


def test_columns_are_looked_for_once_a_minute(client):
    now = 100.0
    suggestions = Suggestions(client.store.reader, lambda: now)
    store(client, {"a": 1})
    assert suggestions.of("t").columns == ("a",)
    store(client, {"b": 1}, {"b": 1})
    assert suggestions.of("t").columns == ("a",)
    now += 61
    assert suggestions.of("t").columns == ("b",)
    for n in range(300):
        assert suggestions.of(f"t{n}").columns == ()
    assert len(suggestions._known) == 256


# --- facets


def test_facets_count_kinds_keys_and_values_of_the_newest_messages(client):
    store(client, *({"device": f"d-{n % 2}", "n": n} for n in range(5)), b"text", b"\x00")
    found = facets(client.store.reader, wanted(), "device")
    assert (found.looked_at, found.is_all) == (7, True)
    assert found.kinds == [("json", 5), ("text", 1), ("binary", 1)]
    assert found.keys == [("device", 5), ("n", 5)]
    assert [tuple(each) for each in found.values] == [
        ("d-0", 3, "device=d-0"),
        ("d-1", 2, "device=d-1"),
    ]
    assert found.others == 0
    assert facets(client.store.reader, wanted(kind="text"), "*").looked_at == 1


def test_facets_are_bounded_and_say_so(client):
    store(client, *({"n": n} for n in range(600)))
    found = facets(client.store.reader, wanted(), "n")
    assert (found.looked_at, found.is_all, len(found.values)) == (500, False, 10)
    assert found.others == 490
    text = client.get(f"{PAGE}?facet=n").text
    assert "newest 500 messages that the search finds; older ones are not counted" in text
    assert "and 490 other values" in text


def test_every_value_leads_to_the_messages_that_have_it(client):
    halves = [
        [42, 9223372036854775807, True, "-1e5x", " x ", 'a "b"', "a=b", "c>d", "straße"],
        ["42", "true", "", "<script>", "\u202e", "=", "~", "null", "x" * 150, "-1e5"],
    ]
    for topic, values in zip("tu", halves, strict=True):
        store(client, *({"k": value} for value in [*values, *values]), topic=topic)
        found = facets(client.store.reader, MessageFilter(topics=(topic,)), "k")
        assert (len(found.values), found.others) == (len(values), 0)
        for each in found.values:
            path = f"/console/topics/{topic}"
            text = client.get(path, query_string={"where": each.where}).text
            assert (each.messages, len(rows(text))) == (2, 2), each


def test_a_click_adds_a_condition_to_those_that_are_there(client):
    store(client, {"a": 1, "b": "x"}, {"a": 1, "b": "y"}, {"a": 2, "b": "x"})
    text = client.get(f"{PAGE}?where=a%3D1&cols=a&facet=b").text
    panel = links(text, r'<section class="card facets".*?</section>')
    assert set(panel) == {"Close", "json", "a", "b", "x", "y"}
    query = parse_qs(panel["x"].lstrip("?"))
    assert query == {"where": ["a=1", "b=x"], "cols": ["a"], "facet": ["b"]}
    text = client.get(PAGE + panel["x"]).text
    assert len(rows(text)) == 1
    assert client.get(PAGE + panel["Close"]).text.count("Narrow down") == 1


def test_facets_of_hostile_messages_are_text(client):
    store(client, {"<script>k": "<img src=x onerror=alert(1)>"}, b'{"k": "\\ud83d"}')
    key = '["<script>k"]'
    text = client.get(PAGE, query_string={"facet": key}).text
    assert "<script>k" not in text
    assert "<img" not in text
    assert "&lt;img src=x" in text
    for key in ("k", "\\", "'", "..", "[0]", "x" * 900, "\u202e", "*", "$"):
        assert client.get(PAGE, query_string={"facet": key}).status_code == 200


def test_facets_show_a_token_its_own_topics_only(client):
    store(client, {"a": "mine"}, topic="mine.a")
    store(client, {"a": "theirs"}, topic="theirs")
    _, secret = client.services.tokens.create("r", ["read"], Actor("t", ""), topics=["mine.*"])
    client.browser.delete_cookie("appliance_session")
    client.sign_in(secret)
    text = client.get("/console/messages?facet=a").text
    assert "theirs" not in text
    assert ">mine</a>" in text
    assert "All 0 messages" in client.get("/console/messages?facet=a&topic=theirs").text


# --- saved searches


def test_a_search_is_saved_found_again_and_forgotten(client):
    store(client, {"a": 1})
    assert "None yet." in client.get(PAGE).text
    query = "q=a+b&where=a%3D1&cols=a&since=1h&facet=a&before=MTk5&open=x&evil=1"
    answer = send(client, name="  My   search ", topic="t", query=query)
    kept = "q=a+b&where=a%3D1&cols=a&since=1h&facet=a"
    assert answer.headers["Location"] == f"{PAGE}?{kept}"
    cookie = answer.headers["Set-Cookie"]
    assert all(part in cookie for part in ("HttpOnly", "SameSite=Lax", "Path=/console"))
    text = client.get("/console/messages").text
    assert html.escape(f"{PAGE}?{kept}") in text
    assert ">My search</a>" in text
    send(client, name="My search", topic="", query="")
    assert ">My search</a>" in client.get(PAGE).text
    assert html.escape(kept) not in client.get("/console/messages").text
    send(client, name="My search", topic="", query="", forget="true")
    assert "None yet." in client.get(PAGE).text


def test_a_search_that_cannot_be_kept_is_refused_in_words(client):
    for name, topic, query in [
        ("", "", "q=x"),
        ("x" * 61, "", "q=x"),
        ("a\x00b", "", ""),
        ("\u202ex", "", ""),
        ("ok", "Not A Topic", ""),
        ("ok", "../../login", ""),
        ("ok", "", "q=" + "x" * 1000),
    ]:
        assert send(client, name=name, topic=topic, query=query).status_code == 400
    assert client.post("/console/searches", {"name": "x"}).status_code == 403
    assert "None yet." in client.get("/console/messages").text


def test_searches_are_bounded_in_number_and_in_size():
    kept = []
    for n in range(MOST):
        kept = with_search(kept, saved_search(f"s{n}", "", "q=x"))
    assert searches_in(cookie_of(kept)) == kept
    assert len(with_search(kept, saved_search("s1", "", "q=y"))) == MOST
    with pytest.raises(InputError, match="forget one"):
        with_search(kept, saved_search("one more", "", ""))
    assert without_search(kept, "s1") == [each for each in kept if each.name != "s1"]
    large = [saved_search(f"s{n}", "", urlencode({"q": "x" * 900})) for n in range(3)]
    kept = with_search(with_search([], large[0]), large[1])
    with pytest.raises(InputError, match="no room"):
        with_search(kept, large[2])
    assert len(cookie_of(kept)) < 3600


@pytest.mark.parametrize(
    "cookie",
    [
        "x", "=", "\xff", "W10", "bnVsbA", "A" * 5000, "W" * 1001,
        cookie_of([("name", "../login", "")]),
        cookie_of([("<b>", "t", 7)]),
        cookie_of([("name", "", ["q"])]),
        cookie_of([("x" * 99, "", "")]),
        cookie_of([(None, None, None), (), "abcd", {"a": 1}]),
    ],
)  # fmt: skip
def test_a_cookie_of_somebody_else_leads_nowhere(cookie):
    assert searches_in(cookie) == []
