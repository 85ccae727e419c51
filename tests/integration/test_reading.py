"""The reading half of the API: a real database, the real reader, Flask's test client."""

import csv
import io
import json
import threading
import time
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from flask_app import app_of
from harness import wait_until

from appliance import config as configuration
from appliance.api.views import formats
from appliance.broker.base import BrokerState
from appliance.machine.pulse import Pulse
from appliance.model import ids, timestamps, wire
from appliance.store import open_store
from appliance.store.rows import PAGE_BYTES, Window
from appliance.store.sqlite.database import connect

HEALTHY = BrokerState(
    connected=True,
    blocked=False,
    accepting=True,
    reason=None,
    depth=3,
    consumers=1,
    checked_seconds_ago=0.5,
)


class Filler:
    """Fills a database as the worker would."""

    def __init__(self, path):
        self.path = path
        self.ids = ids.IdSource()
        self._connection = connect(path, readonly=False)

    def close(self):
        self._connection.close()

    def add(self, topic, *bodies, at=None):
        moment = timestamps.now() if at is None else timestamps.timestamp(at.timestamp())
        rows = [(self.ids.new(), topic, wire.as_text(body), moment) for body in bodies]
        link = self._connection
        link.execute("BEGIN IMMEDIATE")
        link.executemany(
            "INSERT INTO messages (id, topic, body, received_at) VALUES (?, ?, ?, ?)", rows
        )
        link.execute(
            """
            INSERT INTO topics VALUES (:topic, :count, :bytes, :at, :at)
            ON CONFLICT DO UPDATE SET messages = messages + :count, bytes = bytes + :bytes,
                last_at = :at
            """,
            {"topic": topic, "count": len(rows), "bytes": sum(map(len, bodies)), "at": moment},
        )
        link.execute("COMMIT")
        return [row[0] for row in rows]

    def run(self, sql, *values):
        self._connection.execute(sql, values)


@pytest.fixture
def config(tmp_path):
    return configuration.load({"APPLIANCE_DATA": str(tmp_path), "APPLIANCE_MIN_FREE_BYTES": "0"})


@pytest.fixture
def store(config):
    open_store(config).migrate()
    made = Filler(config.data / "appliance.db")
    yield made
    made.close()


@pytest.fixture
def opened(config):
    made = open_store(config)
    yield made
    made.reader.close()


@pytest.fixture
def reader(opened):
    return opened.reader


@pytest.fixture
def broker():
    """What the API knows of the broker; a test may put another state in."""
    return [HEALTHY]


@pytest.fixture
def client(config, broker, store):
    return app_of(config, lambda: broker[0]).test_client()


def bodies(page):
    return [message["body"] for message in page["messages"]]


def follow(client, url, limit=10_000):
    """Return every page from `url` on."""
    pages = []
    while url and len(pages) < limit:
        answer = client.get(url)
        assert answer.status_code == 200, answer.text
        pages.append(answer.json)
        url = answer.json["next_url"]
    return pages


# --- bodies


@pytest.mark.parametrize(
    ("body", "encoding", "kind"),
    [
        (b"hello", "utf-8", "text/plain; charset=utf-8"),
        ("gr\u00fc\u00dfe \U0001f600 \u2028".encode(), "utf-8", "text/plain; charset=utf-8"),
        (b" ", "utf-8", "text/plain; charset=utf-8"),
        (b"\r\n\t\x01\x7f", "utf-8", "text/plain; charset=utf-8"),
        (b"\xef\xbb\xbfbom", "utf-8", "text/plain; charset=utf-8"),
        (b"<script>alert(1)</script>", "utf-8", "text/plain; charset=utf-8"),
        (b"\0", "base64", "application/octet-stream"),
        (b"text with \0 in it", "base64", "application/octet-stream"),
        (bytes(range(256)), "base64", "application/octet-stream"),
        (b"\xed\xb3\xbf", "base64", "application/octet-stream"),  # a lone surrogate
        (b"x" * 3_000_000, "utf-8", "text/plain; charset=utf-8"),
    ],
)
def test_a_body_comes_back_as_it_came(store, client, body, encoding, kind):
    (message_id,) = store.add("t", body)
    shown = client.get(f"/v1/messages/{message_id}").json
    assert (shown["id"], shown["topic"], shown["status"]) == (message_id, "t", "stored")
    assert shown["encoding"] == encoding
    answer = client.get(f"/v1/messages/{message_id}/body")
    assert answer.data == body
    assert answer.content_type == kind
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_an_empty_body_that_another_program_stored_is_shown(store, client):
    (message_id,) = store.add("t", b"")
    assert client.get(f"/v1/messages/{message_id}").json["body"] == ""
    assert client.get(f"/v1/messages/{message_id}/body").data == b""


def test_a_dead_letter_is_shown_with_its_reason(store, client):
    message_id = store.ids.new()
    store.run(
        "INSERT INTO dead_letters (id, topic, body, reason, error, received_at, dead_at) "
        "VALUES (?, 't', ?, 'undecodable', 'not what it says', 'a', 'b')",
        message_id,
        b"bytes",
    )
    shown = client.get(f"/v1/messages/{message_id}").json
    assert (shown["status"], shown["reason"], shown["body"]) == ("dead", "undecodable", "bytes")
    assert client.get(f"/v1/messages/{message_id}/body").data == b"bytes"


def test_an_unknown_id_is_404_and_says_when_to_ask_again(client):
    for path in ("", "/body"):
        answer = client.get(f"/v1/messages/{ids.IdSource().new()}{path}")
        assert answer.status_code == 404
        assert answer.headers["Retry-After"] == "1"
        assert answer.content_type == "application/problem+json"


# --- topics


def test_topics_have_count_bytes_and_times(store, client):
    store.add("b", b"12", b"345")
    store.add("a", b"x")
    found = client.get("/v1/topics").json
    assert [topic["topic"] for topic in found["topics"]] == ["a", "b"]
    assert found["topics"][1] | {"first_at": "", "last_at": ""} == {
        "topic": "b",
        "messages": 2,
        "bytes": 5,
        "first_at": "",
        "last_at": "",
    }
    assert (found["next"], found["next_url"]) == (None, None)


def test_topics_are_paged(store, client):
    names = [f"topic-{n:03}" for n in range(25)]
    for name in names:
        store.add(name, b"x")
    pages = follow(client, "/v1/topics?limit=10")
    assert [len(page["topics"]) for page in pages] == [10, 10, 5]
    assert [topic["topic"] for page in pages for topic in page["topics"]] == names


def test_a_topic_that_never_was_is_404(store, client):
    answer = client.get("/v1/topics/nothing/messages")
    assert answer.status_code == 404
    assert answer.headers["Retry-After"] == "1"


def test_address_of_a_topic_that_never_was_is_there_for_a_sender_that_looks(client):
    assert client.head("/v1/topics/nothing/messages").status_code == 200
    assert client.head("/v1/topics/No%20Topic/messages").status_code == 400


def test_a_topic_whose_messages_are_gone_is_an_empty_page(store, client):
    store.add("t", b"x")
    store.run("DELETE FROM messages")
    page = client.get("/v1/topics/t/messages").json
    assert page == {
        "messages": [], "more": False, "complete": True, "next": None, "next_url": None,
        "newest": None,
    }  # fmt: skip


# --- pages


def test_a_page_is_newest_first(store, client):
    store.add("t", b"1", b"2", b"3")
    store.add("other", b"x")
    assert bodies(client.get("/v1/topics/t/messages").json) == ["3", "2", "1"]


def test_a_page_has_100_messages_unless_asked_otherwise(store, client):
    store.add("t", *(b"%d" % n for n in range(1500)))
    assert len(client.get("/v1/topics/t/messages").json["messages"]) == 100
    assert len(client.get("/v1/topics/t/messages?limit=1000").json["messages"]) == 1000


@pytest.mark.parametrize("start", ["", "&after=0"])
def test_following_next_gives_each_message_once(store, client, start):
    expected = [f"{n}" for n in range(250)]
    for n in range(0, 250, 10):  # other topics in between
        store.add("t", *(b"%d" % m for m in range(n, n + 10)))
        store.add("u", b"x")
    pages = follow(client, f"/v1/topics/t/messages?limit=50{start}")
    assert [len(page["messages"]) for page in pages] == [50] * 5
    found = [body for page in pages for body in bodies(page)]
    assert found == (expected if start else expected[::-1])


def test_going_back_is_not_disturbed_by_what_is_added(store, client):
    store.add("t", *(b"%d" % n for n in range(100)))
    url, found = "/v1/topics/t/messages?limit=7", []
    while url:
        page = client.get(url).json
        found += bodies(page)
        url = page["next_url"]
        store.add("t", b"new")
    assert found == [f"{n}" for n in range(99, -1, -1)]


def test_following_while_rows_are_added_skips_none_and_repeats_none(store, client):
    total = 1000
    store.add("t", b"0")

    def fill():
        for n in range(1, total):
            store.add("t", b"%d" % n)
            store.add("u", b"other")

    filler = threading.Thread(target=fill)
    filler.start()
    cursor, found = "0", []
    end = time.monotonic() + 60
    while len(found) < total and time.monotonic() < end:
        page = client.get(f"/v1/topics/t/messages?after={cursor}&limit=50").json
        found += bodies(page)
        cursor = page["newest"]
    filler.join()
    assert found == [f"{n}" for n in range(total)]


def test_newest_is_where_to_ask_for_more(store, client):
    store.add("t", b"1", b"2", b"3")
    newest = client.get("/v1/topics/t/messages?limit=1").json["newest"]
    page = client.get(f"/v1/topics/t/messages?after={newest}").json
    assert page == {
        "messages": [], "more": False, "complete": True, "next": None, "next_url": None,
        "newest": newest,
    }  # fmt: skip
    store.add("t", b"4")
    assert bodies(client.get(f"/v1/topics/t/messages?after={newest}").json) == ["4"]


def test_after_and_before_together_are_a_window(store, client):
    store.add("t", *(b"%d" % n for n in range(10)))
    pages = follow(client, "/v1/topics/t/messages?limit=1")
    cursors = [page["next"] for page in pages[:-1]]  # of 9, 8, ... 1
    url = f"/v1/topics/t/messages?after={cursors[7]}&before={cursors[3]}&limit=2"
    assert [bodies(page) for page in follow(client, url)] == [["3", "4"], ["5"]]


def test_a_page_ends_before_its_bodies_are_too_many_bytes(store, client):
    third = b"x" * (PAGE_BYTES // 3)
    store.add("t", *[third] * 7)
    pages = follow(client, "/v1/topics/t/messages")
    assert [len(page["messages"]) for page in pages] == [3, 3, 1]


def test_a_page_has_one_message_however_large(store, client):
    store.add("t", b"small", b"y" * (PAGE_BYTES + 1), b"small")
    pages = follow(client, "/v1/topics/t/messages?after=0")
    assert [len(page["messages"]) for page in pages] == [1, 1, 1]


# --- since


def test_since_is_exact_in_spite_of_disorder_and_gaps(store, client):
    start = datetime(2026, 1, 31, tzinfo=UTC)
    for n in range(400):  # one a minute, each pair in the wrong order
        store.add("t", b"%d" % n, at=start + timedelta(minutes=n ^ 1))
    store.run("DELETE FROM messages WHERE seq % 7 = 0 OR seq BETWEEN 300 AND 310")
    times = store_times(store)
    for minute in (0, 1, 150, 299, 305, 399):
        since = (start + timedelta(minutes=minute)).isoformat()
        pages = follow(client, f"/v1/topics/t/messages?after=0&since={quote(since)}")
        found = [message["received_at"] for page in pages for message in page["messages"]]
        assert found == [moment for moment in times if moment >= since[:19]], minute


def store_times(store):
    query = "SELECT received_at FROM messages ORDER BY seq"
    return [row[0] for row in store._connection.execute(query)]


def test_since_a_span_ago(store, client):
    now = datetime.now(UTC)
    store.add("t", b"old", at=now - timedelta(hours=2))
    store.add("t", b"new", at=now - timedelta(minutes=5))
    assert bodies(client.get("/v1/topics/t/messages?since=10m").json) == ["new"]
    assert bodies(client.get("/v1/topics/t/messages?since=3h").json) == ["new", "old"]
    assert bodies(client.get("/v1/topics/t/messages?since=1s").json) == []


def test_since_stays_the_same_moment_on_the_next_pages(store, client):
    now = datetime.now(UTC)
    for n in range(4):
        store.add("t", b"%d" % n, at=now - timedelta(seconds=4 - n))
    page = client.get("/v1/topics/t/messages?since=5s&limit=3").json
    time.sleep(1.5)  # the oldest is more than 5 s old by now
    assert bodies(client.get(page["next_url"]).json) == ["0"]


def test_until_and_since_may_be_unix_times(store, client):
    for second in range(10):
        store.add("t", b"x", at=datetime.fromtimestamp(1769860800 + second, UTC))
    for since, until in (("1769860802", "1769860805"), ("1769860802000", "1769860805000")):
        page = client.get(f"/v1/topics/t/messages?since={since}&until={until}&limit=2").json
        more = client.get(page["next_url"]).json
        found = [each["received_at"][17:19] for each in page["messages"] + more["messages"]]
        assert found == ["04", "03", "02"]
    answer = client.get("/v1/topics/t/messages?until=17960128")
    assert (answer.status_code, answer.json["detail"][:6]) == (400, "until:")


def test_csv_for_excel_keeps_every_digit(store, client):
    store.add("t", b"007", "Köln".encode(), b"=1+1")
    answer = client.get("/v1/topics/t/messages?format=csv&for=excel")
    assert answer.content_type == "text/csv; charset=utf-8"
    assert answer.data.startswith(b"\xef\xbb\xbf")
    assert '"=""007"""' in answer.text
    assert "Köln" in answer.text
    assert ",'=1+1," in answer.text
    assert client.get("/v1/topics/t/messages?for=excel").status_code == 400
    assert client.get("/v1/dead-letters?format=csv&for=excel").data.startswith(b"\xef\xbb\xbf")


def test_since_in_an_empty_database_is_no_fault(store, client):
    store.add("t", b"x")
    store.run("DELETE FROM messages")
    assert client.get("/v1/topics/t/messages?since=1h").json["messages"] == []


def test_since_reads_few_rows_of_many(store, reader):
    start = datetime(2026, 1, 31, tzinfo=UTC)
    rows = [b"x"] * 1000
    for hour in range(100):
        store.add("t", *rows, at=start + timedelta(hours=hour))
    steps = []
    reader.check()
    with reader.reading() as connection:  # this thread has the same one again
        connection.set_progress_handler(lambda: steps.append(1), 1000)
    since = timestamps.timestamp((start + timedelta(hours=99)).timestamp())
    assert len(reader.page(Window("t", since=since), 1000).rows) == 1000
    assert len(steps) < 50  # thousands of steps of SQLite's machine; a scan of all takes 1000


# --- exports


def test_an_export_has_no_limit_unless_one_is_given(store, client):
    store.add("t", *(b"%d" % n for n in range(5000)))
    lines = client.get("/v1/topics/t/messages?format=ndjson").data.splitlines()
    assert [json.loads(line)["body"] for line in lines] == [f"{n}" for n in range(4999, -1, -1)]
    for count in (1, 2000, 2001, 4999):
        answer = client.get(f"/v1/topics/t/messages?format=ndjson&after=0&limit={count}")
        assert len(answer.data.splitlines()) == count


def test_an_export_says_what_it_is(store, client):
    store.add("t", b"x")
    ndjson = client.get("/v1/topics/t/messages?format=ndjson")
    assert ndjson.content_type == "application/x-ndjson"
    table = client.get("/v1/topics/t/messages?format=csv")
    assert table.content_type == "text/csv; charset=utf-8"
    assert table.headers["Content-Disposition"] == 'attachment; filename="t.csv"'


def test_a_csv_export_is_read_back(store, client):
    given = ['with "quotes", commas', "two\r\nlines", "=1+1", "\u00fc"]
    ids = store.add("t", *(body.encode() for body in given), b"\xff")
    answer = client.get("/v1/topics/t/messages?format=csv&after=0")
    header, *rows = csv.reader(io.StringIO(answer.text, newline=""))
    assert header == list(formats.COLUMNS)
    assert [row[0] for row in rows] == ids
    expected = ['with "quotes", commas', "two\r\nlines", "'=1+1", "\u00fc", "'/w=="]
    assert [row[4].removeprefix("'") for row in rows] == [e.removeprefix("'") for e in expected]
    assert rows[2][4] == "'=1+1"
    assert rows[4][3] == "base64"


def test_exports_come_in_large_pieces(store, reader):
    store.add("t", *[b"x" * 300] * 20_000)
    sizes = [sum(len(row.body) for row in rows) for rows in reader.pieces(Window("t"))]
    assert sum(sizes) == 6_000_000
    assert min(sizes[:-1]) > 200_000


def test_an_export_of_a_topic_that_grows_ends(store, reader):
    store.add("t", *[b"x"] * 5000)
    count = 0
    for rows in reader.pieces(Window("t", after=0)):
        count += len(rows)
        store.add("t", *[b"y"] * len(rows))
    assert count == 5000


def test_an_export_does_not_keep_the_write_ahead_log(store, reader):
    store.add("t", *[b"x" * 1000] * 5000)
    pieces = reader.pieces(Window("t"))
    next(pieces)
    result = store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert result[0] == 0  # not busy: no reader holds it
    assert sum(map(len, pieces)) > 0


# --- input that is wrong


BAD_TARGETS = [
    *(f"/v1/topics/{topic}/messages" for topic in ("UPPER", "%00", "a%00b", "%FF%FE", "%ED%B3%BF")),
    *(f"/v1/topics/{topic}/messages" for topic in ("a%0d%0aX-Evil:1", "-a", "a" * 101, "%C3%BC")),
    *(f"/v1/messages/{text}" for text in ("1", "%00", "%FF", "x" * 5000, "a%0d%0ab")),
    "/v1/messages/018F0000-0000-7000-8000-000000000000",  # upper case
    *(
        f"/v1/topics/t/messages?{query}"
        for query in (
            "query=x",
            "limit=0",
            "limit=-1",
            "limit=1001",
            "limit=99999999999999999999999999",
            "limit=1e3",
            "limit=",
            "limit=1&limit=2",
            "limit=%00",
            "limit=%D9%A3",
            "before=",
            "before=x",
            "before=%00",
            "before=%FF%FE",
            "before=%ED%B3%BF",
            "before=0'%20OR%201=1--",
            "after=9223372036854775808",
            "after=MTk5OTk5OTk5OTk5OTk5OTk5OTk5OQ",
            "after=" + "A" * 5000,
            "since=x",
            "since=",
            "since=%00",
            "since=99999999999999999999d",
            "since=2026-13-01",
            "since=2026-01-01T25:00:00Z",
            "since=%0d%0a",
            "format=xml",
            "format=JSON",
            "format=json%00",
            "%00=1",
            "%FF=1",
            "a%0d%0aX-Evil:1=1",
            "format=csv&limit=0",
            "format=ndjson&limit=99999999999999999999",
        )
    ),
    "/v1/topics?before=MTE",
    "/v1/topics?limit=0",
    "/v1/topics?after=%FF",
    "/v1/status?x=1",
]


@pytest.mark.parametrize("target", BAD_TARGETS)
def test_a_bad_request_is_400_in_words(store, client, target):
    store.add("t", b"x")
    answer = client.get(target)
    assert answer.status_code == 400, answer.text
    assert answer.content_type == "application/problem+json"
    assert answer.json["status"] == 400
    assert answer.json["detail"]
    assert "X-Evil" not in answer.headers


@pytest.mark.parametrize(
    "target", ["/x", "/v1", "/v2/topics", "/v1/topics/", "//v1/topics", "/v1/topics/a/b/messages"]
)
def test_an_address_that_is_not_there_is_404(client, target):
    answer = client.get(target)
    assert answer.status_code == 404
    assert answer.content_type == "application/problem+json"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "FOO"])
def test_a_method_that_is_not_there_is_405_and_names_those_that_are(client, method):
    answer = client.open("/v1/topics", method=method)
    assert answer.status_code == 405
    assert answer.headers["Allow"] == "GET, HEAD"
    assert answer.json["type"].endswith(":method-not-allowed")


def test_head_is_get_without_the_body(store, client):
    (message_id,) = store.add("t", b"x")
    for path in (
        "/v1/topics",
        "/v1/topics/t/messages",
        "/v1/topics/t/messages?format=csv",
        f"/v1/messages/{message_id}",
        f"/v1/messages/{message_id}/body",
        "/healthz",
        "/readyz",
        "/v1/status",
        "/openapi.json",
    ):
        head, get = client.head(path), client.get(path)
        assert (head.status_code, head.data) == (200, b"")
        assert head.content_type == get.content_type


def test_json_ends_with_a_newline_and_is_not_kept_by_caches(store, client):
    for path in ("/v1/topics", "/nothing", "/healthz", "/openapi.json"):
        answer = client.get(path)
        assert answer.data.endswith(b"}\n")
        assert answer.headers["Cache-Control"] == "no-store"


def test_a_fault_of_ours_tells_the_client_nothing_of_the_inside(config, store, caplog):
    def broken():
        raise RuntimeError("secret detail of the inside")

    client = app_of(config, broken).test_client()
    answer = client.get("/v1/status")
    assert answer.status_code == 500
    assert answer.content_type == "application/problem+json"
    assert b"secret" not in answer.data
    assert b"Traceback" not in answer.data


# --- a database that is not there, or another one


def test_without_a_database_reads_are_503_and_recover(config, broker):
    client = app_of(config, lambda: broker[0]).test_client()
    answer = client.get("/v1/topics")
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    assert str(config.data) not in answer.text
    assert client.get("/v1/status").json["store"] is None
    open_store(config).migrate()
    assert client.get("/v1/topics").json["topics"] == []


def test_a_database_put_in_place_of_the_old_one_is_read(config, store, client):
    store.add("old", b"x")
    assert len(client.get("/v1/topics").json["topics"]) == 1
    store.close()
    for path in config.data.glob("appliance.db*"):
        path.unlink()
    open_store(config).migrate()
    assert client.get("/v1/topics").json["topics"] == []


def test_a_damaged_database_is_503(config, store, client):
    store.add("t", b"x" * 100_000)
    store.run("PRAGMA wal_checkpoint(TRUNCATE)")
    with (config.data / "appliance.db").open("r+b") as file:
        file.write(b"not a database " * 4000)
    answer = client.get("/v1/topics")
    assert answer.status_code == 503
    ready = client.get("/readyz")
    assert ready.status_code == 503


def test_many_threads_read_at_once(store, client, config, reader):
    store.add("t", *[b"x" * 100] * 2000)
    app, counts = client.application, []

    def read():
        mine = app.test_client()
        pages = [mine.get("/v1/topics/t/messages?limit=500").json for _ in range(20)]
        counts.extend(len(page["messages"]) for page in pages)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [500] * 160


# --- health and status


def test_healthz_says_only_that_the_process_answers(client, broker):
    broker[0] = BrokerState(
        connected=False,
        blocked=False,
        accepting=False,
        reason="away",
        depth=None,
        consumers=None,
        checked_seconds_ago=None,
    )
    assert client.get("/healthz").json == {"status": "ok"}


def test_readyz_is_ready_when_all_is_well(client):
    answer = client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json["ready"] is True
    assert answer.json["reasons"] == []
    assert set(answer.json["checks"].values()) == {True}


@pytest.mark.parametrize(
    ("change", "check", "reason"),
    [
        ({"connected": False}, "broker_connected", "the broker is not connected"),
        ({"blocked": True}, "broker_not_blocked", "the broker blocks publishers"),
        ({"accepting": False, "reason": "full"}, "broker_accepts", "full"),
        ({"full": True}, "queue_has_room", "the queue is full"),
        ({"consumers": 0}, "worker_attached", "no worker"),
        ({"checked_seconds_ago": 600.0}, "queue_seen", "600 s ago"),
        ({"checked_seconds_ago": None}, "queue_seen", "never"),
    ],
)
def test_readyz_says_why_the_broker_would_not_keep_a_message(client, broker, change, check, reason):
    fields = {name: getattr(HEALTHY, name) for name in HEALTHY.__slots__}
    broker[0] = BrokerState(**fields | change)
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    assert answer.json["ready"] is False
    assert answer.json["checks"][check] is False
    assert reason in " ".join(answer.json["reasons"])


@pytest.mark.parametrize(
    ("process", "fact", "check", "reason"),
    [
        (
            "janitor",
            ("probe", {"state": "fails", "reason": "no confirm within 10 s"}),
            "broker_serves",
            "the broker runs and does not serve: no confirm within 10 s",
        ),
        (
            "worker",
            ("trouble", "the store's disk is full"),
            "worker_stores",
            "a worker holds what it can't store: the store's disk is full",
        ),
    ],
)
def test_readyz_heeds_what_other_processes_tell(client, config, process, fact, check, reason):
    with Pulse(config, process) as pulse:
        assert client.get("/readyz").json["ready"] is True
        pulse.tell(*fact)
        wait_until(lambda: client.get("/readyz").status_code == 503, "not ready", 10)
        answer = client.get("/readyz").json
        assert answer["checks"][check] is False
        assert answer["reasons"] == [reason]
        told = {one["process"]: one for one in client.get("/v1/status").json["pulses"]}
        assert told[process]["state"] == "starting"
    assert client.get("/readyz").json["ready"] is True


def test_readyz_says_that_no_worker_gives_a_sign_of_life(client, config, monkeypatch):
    with Pulse(config, "worker"):
        assert client.get("/readyz").json["checks"]["worker_alive"] is True
        later = time.monotonic() + 60
        monkeypatch.setattr(time, "monotonic", lambda: later)
        answer = client.get("/readyz").json
    assert answer["checks"]["worker_alive"] is False
    assert "no worker gave a sign of life" in answer["reasons"][0]


def test_readyz_says_that_the_disk_is_below_its_floor(tmp_path, store):
    config = configuration.load(
        {"APPLIANCE_DATA": str(tmp_path), "APPLIANCE_MIN_FREE_BYTES": "1000000g"}
    )
    answer = app_of(config, lambda: HEALTHY).test_client().get("/readyz")
    assert answer.status_code == 503
    assert answer.json["checks"]["disk_free"] is False
    assert "must stay free" in answer.json["reasons"][0]


def test_readyz_says_that_the_database_is_not_at_this_programs_schema(client, store):
    store.run("PRAGMA user_version = 9999")
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json["checks"]["store_readable"] is False
    assert "schema" in answer.json["reasons"][0]


def test_status_shows_every_part(store, client):
    store.add("a", b"123")
    store.add("b", b"45", b"6")
    found = client.get("/v1/status").json
    assert found["ready"] is True
    assert found["broker"]["depth"] == 3
    assert (found["store"]["messages"], found["store"]["bytes"]) == (3, 6)
    assert (found["store"]["topics"], found["store"]["dead_letters"]) == (2, 0)
    assert found["store"]["database_bytes"] > 0
    assert found["store"]["wal_bytes"] > 0
    assert found["disk"]["free_bytes"] > 0
    assert found["processes"] == []
    assert found["sqlite"].startswith("3.")
