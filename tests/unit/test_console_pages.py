"""The console's pages of messages: lists, searches, one message, two compared."""

import html
import re

import pytest
from console_client import ConsoleClient
from store_contents import IDS, TIME

from appliance import config as configuration
from appliance.model.contents import DeadLetter
from appliance.model.ids import IdSource
from appliance.model.wire import single
from appliance.store.access_rows import Actor

BY = Actor("administrator", "127.0.0.1")

#: Whatever a stranger can send; none of it is markup on a page.
HOSTILE = [
    "<script>alert(1)</script>",
    "</pre></div></details><img src=x onerror=alert(1)>",
    "<!-- ",
    "]]><svg/onload=alert(1)>",
    "javascript:alert(1)",
    "{{ 777 * 777 }}{% raw %}",
    "\u202egnp.exe",
    "\x1b[31mred\x07",
    "\"quoted\" 'single' & co",
    "a" * 100_000,
    "\n\n  lines\n",
    '{"<b>": "<i>", "__proto__": {"a": 1}, "constructor": null}',
    '{"\\ud800": "\\udfff"}',
]


@pytest.fixture
def console(tmp_path):
    config = configuration.load({"APPLIANCE_DATA": str(tmp_path), "APPLIANCE_MIN_FREE_BYTES": "0"})
    client = ConsoleClient(config)
    client.writer = client.store.open_writer()
    client.sign_in()
    yield client
    client.writer.close()
    client.close()


def store(console, topic, *bodies, time=TIME, **options):
    """Store messages; return their ids."""
    ids = [IDS.new() for _ in bodies]
    each = [
        single(topic, id_, time, body if isinstance(body, bytes) else body.encode(), **options)
        for id_, body in zip(ids, bodies, strict=True)
    ]
    console.writer.store(each)
    return ids


def page(console, path, status=200):
    answer = console.get(path)
    assert answer.status_code == status
    return answer.text


def shown_ids(text):
    return re.findall(r'<tr data-row id="m-([^"]+)"', text)


def link(text, rel):
    return html.unescape(re.search(rf'rel="{rel}" href="([^"]+)"', text)[1])


def plain(text):
    """The text of a page's body as a reader sees it."""
    return html.unescape(re.sub(r"<[^>]+>", "", text))


def test_a_list_goes_back_and_forth_without_gap_or_repeat(console):
    ids = store(console, "t", *(f"body {n}" for n in range(120)))[::-1]
    text = page(console, "/console/messages")
    seen = shown_ids(text)
    assert seen == ids[:50]
    assert 'rel="prev"' not in text
    text = page(console, "/console/messages" + link(text, "next"))
    assert shown_ids(text) == ids[50:100]
    older = page(console, "/console/messages" + link(text, "next"))
    assert shown_ids(older) == ids[100:]
    assert 'rel="next"' not in older
    text = page(console, "/console/messages" + link(older, "prev"))
    assert shown_ids(text) == ids[50:100]
    text = page(console, "/console/messages" + link(text, "prev"))
    assert shown_ids(text) == ids[:50]
    assert shown_ids(page(console, "/console/topics/t")) == ids[:50]


def test_a_search_takes_whatever_is_typed(console):
    (one,) = store(console, "t", '{"device": "t-6", "temp": 31, "street": "Lange Straße"}')
    (other,) = store(console, "u", '{"device": "t-7", "temp": 12}')

    def found(**query):
        return shown_ids(console.get("/console/messages", query_string=query).text)

    assert found(q="device:t-6") == [one]
    assert found(q="temp>30 strasse") == []
    assert found(q="temp>30 straße") == [one]
    assert found(q='"lange straße" -nothing') == [one]
    assert found(q="temp<=12") == [other]
    assert found(where="temp=12") == [other]
    assert found(topic="u") == [other]
    assert found(kind="json", since="2026-01-01") == [other, one]
    assert found(until="2026-01-01") == []
    for typed in ['"', "'", "*", "-", "--", "a:b:c", "http://x.example/y", ":", "a..b:1", "NEAR(",
                  "\x00", "a AND OR", "%", "[x]:1", "\\", "(" * 900, "x:" * 400, "é"]:  # fmt: skip
        assert console.get("/console/messages", query_string={"q": typed}).status_code == 200


def test_a_search_shows_its_parts_to_be_taken_away(console):
    store(console, "t", '{"a": 1}')
    text = page(
        console, "/console/messages?q=one+%22two+three%22&kind=json&where=a%3D1&before=MTk5"
    )
    chips = re.findall(r'<li><span class="mono">([^<]+)</span> <a href="([^"]+)"', text)
    assert [html.unescape(word) for word, _ in chips] == ["one", '"two three"', "json only", "a=1"]
    without = html.unescape(chips[0][1])
    assert without == "?kind=json&where=a%3D1&q=%22two+three%22"
    text = page(console, "/console/messages" + html.unescape(chips[3][1]))
    assert "a=1" not in re.findall(r'<li><span class="mono">([^<]+)</span>', text)


def test_a_hit_is_marked(console):
    store(console, "t", "the <b>Quick</b> fox")
    text = page(console, "/console/messages?q=quick")
    assert "&lt;b&gt;<mark>Quick</mark>&lt;/b&gt;" in text


def test_columns_are_taken_out_of_json_with_their_digits(console):
    store(console, "t", '{"a": {"b": 12345678901234567890.10}, "c": [1, {"d": 1e400}]}')
    store(console, "t2", '{"a": {"b": "\\ud83d"}}')
    assert "\\ud83d" in page(console, "/console/topics/t2?cols=a.b")
    text = page(console, "/console/topics/t?cols=a.b,c,x..y")
    cells = re.findall(r'<td class="mono cell"[^>]*>([^<]*)</td>', text)
    assert [html.unescape(each) for each in cells] == ["12345678901234567890.10", '[1,{"d":1e400}]']
    assert "x..y is no path into JSON" in text


@pytest.mark.parametrize(
    "query",
    ["since=soon", "until=x", "before=x", "after=!", "where=x", "where==", "open=x"],
)
def test_a_value_that_is_none_is_a_page_that_says_so(console, query):
    answer = console.get(f"/console/messages?{query}")
    assert answer.status_code in (400, 404)
    assert "Error 4" in answer.text


@pytest.mark.parametrize("body", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_body_is_text_wherever_it_is_shown(console, body):
    (one,) = store(console, "t", body)
    (other,) = store(console, "t", body + " ")
    views = [f"/console/messages/{one}?view={view}" for view in ("pretty", "raw", "sql")]
    beside = f"/console/messages?open={one}"
    for path in [*views, "/console/messages", beside, f"/console/compare?a={one}&b={other}"]:
        text = page(console, path)
        names = re.findall(r"<(script|img|svg|iframe|object|style)\b([^>]*)", text)
        assert all('src="/console/static/' in rest for name, rest in names if name == "script")
        assert {name for name, _ in names} <= {"script", "svg"}
        assert not re.search(r"<[^>]*\son\w+\s*=", text)
        assert str(777 * 777) not in plain(text)
        assert text.count("</html>") == 1
    if "\n" not in body and len(body) < 60_000:
        assert body in plain(page(console, views[1]))


def test_a_hostile_header_or_letter_is_text_too(console):
    meta = '{"headers": {"x-<b>": "<script>alert(1)</script>"}, "token": "<i>"}'
    (one,) = store(console, "t", "x", content_type="text/<u>", meta=meta)
    text = page(console, f"/console/messages/{one}?view=headers")
    assert "<script>alert" not in text
    assert "x-&lt;b&gt;" in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "text/&lt;u&gt;" in text
    letter_id = IdSource().new()
    console.writer.store([DeadLetter("<b>t", letter_id, TIME, b"<i>", "conflict", "<script>x")])
    text = page(console, f"/console/messages/{letter_id}")
    assert "&lt;script&gt;x" in text
    assert "<script>x" not in text


def test_numbers_duplicate_keys_and_depth_are_shown_as_they_came(console):
    deep = "[" * 1000 + "]" * 1000
    (one, two) = store(
        console, "t", '{"n":9223372036854775807,"e":1e400,"k":1,"k":2,"f":1.10}', deep
    )
    text = plain(page(console, f"/console/messages/{one}"))
    for token in ("9223372036854775807", "1e400", '"k"again: 2', "1.10"):
        assert token in text
    text = plain(page(console, f"/console/messages/{two}"))
    assert text.count("[") >= 999
    compared = plain(page(console, f"/console/compare?a={one}&b={two}"))
    assert "9223372036854775807" in compared
    assert "1e400" in compared


def test_a_fault_in_json_is_marked_and_the_rest_is_there(console):
    (one,) = store(console, "t", '{"a": 1,\n "b": nope}')
    text = page(console, f"/console/messages/{one}")
    assert "in line 2, column 7, JSON was expected" in text
    assert "<mark>n</mark>ope}" in text


def test_bytes_are_shown_in_hex_page_by_page(console):
    body = bytes(range(256)) * 20
    (one,) = store(console, "t", body)
    text = page(console, f"/console/messages/{one}")
    rows = re.findall(r'<span class="muted">([0-9a-f]{8})</span>  ([0-9a-f ]{47})', text)
    assert len(rows) == 256
    assert rows[1] == ("00000010", bytes(range(16, 32)).hex(" "))
    further = html.unescape(re.search(r'href="([^"]+)">further', text)[1])
    text = page(console, further)
    rows = re.findall(r'<span class="muted">([0-9a-f]{8})</span>', text)
    assert (rows[0], len(rows)) == ("00001000", 64)
    for at in ("x", "-1", "9" * 11, "9" * 40, "\u0661"):
        page(console, f"/console/messages/{one}?view=hex&at={at}")


def test_a_large_body_is_shown_by_its_beginning(console):
    body = '{"a": "' + "x" * 400_000 + '"}'
    (one,) = store(console, "t", body)
    text = page(console, f"/console/messages/{one}")
    assert "These are the first 64 KiB of 391 KiB" in plain(text)
    assert len(text) < 90_000
    many = "[" + ",".join(["1"] * 60_000) + "]"
    (two,) = store(console, "t", many)
    assert len(page(console, f"/console/messages/{two}")) < 90_000


def test_a_body_is_saved_and_never_opened(console):
    (one, two) = store(console, "t", "<script>alert(1)</script>", b"\xff\x00")
    for id_, body, end in ((one, b"<script>alert(1)</script>", "txt"), (two, b"\xff\x00", "bin")):
        answer = console.get(f"/console/messages/{id_}/body")
        assert answer.data == body
        assert answer.content_type == "application/octet-stream"
        assert answer.headers["Content-Disposition"] == f'attachment; filename="{id_}.{end}"'
        assert answer.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_two_messages_are_compared_by_their_values(console):
    one, same, other, large = store(
        console, "t", '{"b": 1, "a": [1, 2.50]}', '{"a":[1,2.50],"b":1}', '{"a":[1,2.5],"b":1}',
        "x\n" * 6000,
    )  # fmt: skip
    text = page(console, f"/console/compare?id={one}&id={other}")
    assert re.findall(r"<del><span class=\"sign\">\u2212</span> ([^<]*)</del>", text) == [
        "    2.50"
    ]
    assert re.findall(r"<ins><span class=\"sign\">\+</span> ([^<]*)</ins>", text) == ["    2.5"]
    assert "<del>" not in page(console, f"/console/compare?id={one}&id={same}")
    assert "byte for byte" in page(console, f"/console/compare?id={one}&id={one}")
    assert "too large to compare here" in page(console, f"/console/compare?id={one}&id={large}")
    assert "Mark two messages" in page(console, f"/console/compare?id={one}", 400)
    page(console, "/console/compare", 404)


def test_a_reader_sees_its_topics_only(console):
    (mine, theirs) = (*store(console, "mine.a", "my body"), *store(console, "theirs", "their body"))
    _, token = console.services.tokens.create("r", ["read"], BY, topics=["mine.*"])
    console.post("/console/logout", console.form("/console/"))
    console.sign_in(token)
    text = page(console, "/console/messages")
    assert shown_ids(text) == [mine]
    assert "theirs" not in text
    page(console, f"/console/messages/{theirs}", 404)
    page(console, f"/console/messages/{theirs}/body", 404)
    page(console, f"/console/compare?a={mine}&b={theirs}", 404)
    page(console, "/console/topics/theirs", 403)
    page(console, f"/console/messages?open={theirs}", 404)
    text = page(console, "/console/")
    assert "theirs" not in text


def test_an_export_asks_the_api_for_what_is_shown(console):
    store(console, "t", '{"a": 1, "x": "=1+1"}', '{"a": 2, "x": "y z"}')
    text = page(console, "/console/messages?q=a:1+x&topic=t&cols=a")
    links = [html.unescape(each) for each in re.findall(r'href="(/v1/[^"]+)" download', text)]
    assert len(links) == 3
    assert all("where=a%3D1" in each and "q=x" in each and "topic=t" in each for each in links)
    for each in links:
        query = each.partition("?")[2]
        assert "after=0" in query
    assert "columns=a" in links[1]


def test_an_empty_page_says_why(console):
    text = plain(page(console, "/console/messages"))
    assert "Nothing has come yet" in text
    store(console, "t", "x")
    text = plain(page(console, "/console/messages?q=zzz&since=1h"))
    assert "Nothing matches" in text
    assert "Without the time limit" in text
    assert "retention" in plain(page(console, "/console/topics/never-used"))
    page(console, "/console/topics/Not A Topic", 404)
