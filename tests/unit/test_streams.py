"""Streams: a real store, real sockets; only the broker is left out."""

import json
import socket
import time

import httpx
import pytest
import ready_made
from harness import wait_until
from served_streams import ServedStreams
from store_contents import TIME, lines, many, one

from appliance import config as configuration
from appliance.api.stream import hub, source
from appliance.api.views.parameters import parse_seq_cursor, seq_cursor
from appliance.auth.authorizer import hashed
from appliance.auth.snapshot import AccessSnapshot
from appliance.errors import StoreError
from appliance.model import timestamps
from appliance.store import open_store
from appliance.store.access_rows import AccessRows, SessionRow, TokenKey, TokenRow
from appliance.store.rows import Window

READ_TOKEN = "r" * 32


@pytest.fixture
def store(tmp_path):
    store = open_store(configuration.load({"APPLIANCE_DATA": str(tmp_path / "data")}))
    ready_made.migrate(store.path)
    yield store
    store.reader.close()


@pytest.fixture
def writer(store):
    writer = store.open_writer()
    yield writer
    writer.close()


@pytest.fixture
def serve(tmp_path, store):
    """Return what serves the store's streams; all end with the test."""
    running = []

    def serve(**settings):
        values = {f"APPLIANCE_{name.upper()}": value for name, value in settings.items()}
        config = configuration.load({"APPLIANCE_DATA": str(tmp_path / "data"), **values})
        running.append(ServedStreams(config, store))
        return running[-1]

    yield serve
    for each in running:
        each.clear()


@pytest.fixture
def served(serve):
    return serve()


def numbers(first, last):
    return [b"%d" % n for n in range(first, last)]


def bodies(messages):
    return [each["body"].encode() for each in messages]


def give_token(served, *topics, name="reader"):
    row = TokenRow(name, ("read",), topics, None, TIME, None, None)
    rows = AccessRows(1, [TokenKey(hashed(READ_TOKEN.encode()), row)], [])
    served.authorizer.put(AccessSnapshot.of(rows, time.time()))


def open_soon(served, count):
    wait_until(lambda: served.tally.open == count, f"{count} streams are open", 10)


# --- whole messages -----------------------------------------------------------------------------


def test_a_stream_begins_with_what_is_stored_from_now_on(served, writer):
    writer.store([one(b"before")])
    reader = served.open("/v1/stream?all=1")
    assert reader.event()[0] == "place"
    writer.store([one(b"a"), one(b"b", topic="u")])
    writer.store([many(numbers(0, 700))])
    assert bodies(reader.messages(702)) == [b"a", b"b", *numbers(0, 700)]


def test_a_message_of_a_stream_is_the_one_of_the_pages_and_its_id_a_cursor_of_theirs(
    served, writer, store
):
    writer.store([one(b"\xff\x00", topic="u"), one("ä\n\n".encode())])
    reader = served.open("/v1/stream?all=1&after=0")
    first, second = reader.messages(2)
    assert (first["encoding"], second["body"]) == ("base64", "ä\n\n")
    assert set(first) == {
        "id", "topic", "received_at", "body", "encoding", "content_type", "meta",
    }  # fmt: skip
    assert reader.last_id == seq_cursor(store.reader.page(Window("t"), 1).rows[0].seq)


def test_a_body_is_one_event_whatever_is_in_it(served, writer):
    hostile = ["data: x\n\nevent: y\ndata: z\n\n", "\r\n\r\nid: 1\r", "\u2028\u2029\x85", "\x01:"]
    reader = served.open("/v1/stream?all=1&after=0")
    writer.store([many([each.encode() for each in hostile])])
    assert [each["body"] for each in reader.messages(4)] == hostile


@pytest.mark.parametrize("how", ["header", "after"])
def test_a_reader_that_comes_back_misses_nothing_and_sees_nothing_twice(serve, writer, how):
    """The server ends in between, the writer does not."""
    seen, last, sent = [], None, 0
    for _ in range(6):
        served = serve()
        if how == "header" and last:
            reader = served.open("/v1/stream?all=1&after=0&since=1s", Last_Event_ID=last)
        else:
            reader = served.open(f"/v1/stream?all=1&after={last or 0}")
        writer.store([many(numbers(sent, sent + 150))])
        sent += 150
        wanted = 100 if sent < 900 else sent - len(seen)
        seen += bodies(reader.messages(wanted))
        last = reader.last_id
        reader.close()
        served.stop()
        writer.store([one(b"%d" % sent)])
        sent += 1
    reader = serve().open("/v1/stream?all=1", Last_Event_ID=last)
    seen += bodies(reader.messages(sent - len(seen)))
    assert seen == numbers(0, sent)


def test_the_first_event_tells_the_place_from_which_a_reader_can_go_on(served, writer):
    writer.store([one(b"before")])
    reader = served.open("/v1/stream?all=1")
    name, data = reader.event()
    assert (name, data["cursor"]) == ("place", reader.last_id)
    reader.close()
    writer.store([one(b"meanwhile")])
    again = served.open("/v1/stream?all=1", Last_Event_ID=reader.last_id)
    assert bodies(again.messages(1)) == [b"meanwhile"]


def test_a_stream_since_a_time_begins_with_what_was_received_then(served, writer):
    writer.store([one(b"old", time=timestamps.timestamp(time.time() - 300))])
    writer.store([one(b"recent", time=timestamps.timestamp(time.time() - 30))])
    reader = served.open("/v1/stream?all=1&since=1m")
    writer.store([one(b"delayed", time=timestamps.timestamp(time.time() - 300))])
    assert bodies(reader.messages(2)) == [b"recent", b"delayed"]


def test_a_stream_of_a_topic_has_its_messages_only(served, writer):
    writer.store([many([b"no"] * 1000, topic="noise"), one(b"0")])
    reader = served.open("/v1/topics/t/stream?all=1&after=0")
    other = served.open("/v1/topics/later/stream?all=1")
    assert other.event()[0] == "place"
    for n in range(1, 5):
        writer.store([many([b"no"] * 1000, topic="noise"), one(b"%d" % n)])
    writer.store([one(b"first", topic="later")])
    assert bodies(reader.messages(5)) == numbers(0, 5)
    assert bodies(other.messages(1)) == [b"first"]


def test_a_stream_of_patterns_finds_what_is_far_away(served, writer):
    for n in range(3):
        writer.store([lines([b"no"] * 25_000, topic="noise"), one(b"%d" % n, topic=f"shop.{n}")])
    reader = served.open("/v1/stream?all=1&after=0&topic=shop.*,none")
    assert bodies(reader.messages(3)) == numbers(0, 3)


def test_a_token_of_some_topics_sees_those_and_nothing_else(served, writer):
    give_token(served, "shop.*", "t")
    reader = served.open("/v1/stream?all=1&after=0", READ_TOKEN)
    narrow = served.open("/v1/stream?all=1&after=0&topic=*.1,u", READ_TOKEN)
    frames = served.open("/v1/stream?after=0", READ_TOKEN)
    for n in range(3):
        writer.store([one(b"secret", topic="u"), one(b"%d" % n, topic=f"shop.{n}")])
        time.sleep(0.1)
    assert bodies(reader.messages(3)) == numbers(0, 3)
    assert bodies(narrow.messages(1)) == [b"1"]
    found = frames.frames(3)
    assert sum(each["n"] for each in found) == 3
    assert "secret" not in json.dumps(found)
    assert served.open("/v1/topics/u/stream", READ_TOKEN).status == 403
    assert served.open("/v1/topics/t/stream", READ_TOKEN).status == 200


# --- frames -------------------------------------------------------------------------------------


def test_a_frame_has_the_true_count_and_the_newest_messages(served, writer):
    reader = served.open()
    assert reader.event()[0] == "place"
    contents = [many(numbers(0, 400)), many([b"x"] * 70, topic="u")]
    writer.store(contents)
    (frame,) = reader.frames(470)
    assert (frame["n"], frame["topics"]) == (470, 2)
    assert frame["by_topic"] == {"t": 400, "u": 70}
    assert frame["rate"] >= 470
    assert [each["topic"] for each in frame["messages"]] == ["u"] * 50
    assert parse_seq_cursor("before", frame["before"]) == 471


def test_a_frame_shows_the_begin_of_a_message_and_its_kind(served, writer):
    long = "ä" * 5000
    sent = [
        b'{"a": 1}',
        b"{this is no json",
        long.encode(),
        bytes(range(256)),
        b"[" + b"1," * 40_000,
    ]
    reader = served.open("/v1/stream?after=0")
    writer.store([many(sent)])
    (frame,) = reader.frames(5)
    shown = {each["bytes"]: each for each in frame["messages"]}
    assert [shown[len(body)]["kind"] for body in sent] == [
        "json", "text", "text", "binary", "json",
    ]  # fmt: skip
    assert shown[10_000]["preview"] == "ä" * 200
    assert shown[256]["preview"].startswith("00 01 02 ")
    assert all(len(each["preview"]) <= 200 for each in frame["messages"])
    assert set(shown[8]) == {"id", "topic", "received_at", "preview", "bytes", "kind"}


def test_frames_come_four_times_a_second_at_most_however_much_is_stored(served, writer):
    reader = served.open()
    assert reader.event()[0] == "place"
    begin, sent, ends = time.monotonic(), 0, []
    while time.monotonic() - begin < 1.5:
        writer.store([many(numbers(0, 10))])
        sent += 10
    counted = 0
    while counted < sent:
        counted += reader.event()[1]["n"]
        ends.append(time.monotonic())
    assert counted == sent
    assert len(ends) <= 4 * (ends[-1] - begin) + 2


def test_frames_of_the_past_count_every_message_once(served, writer):
    for n in range(2):
        writer.store([lines([b"x"] * 30_000, topic=f"t{n}")])
    reader = served.open("/v1/stream?after=0")
    frames = reader.frames(60_000)
    assert sum(each["n"] for each in frames) == 60_000
    assert len(frames) >= 2
    assert frames[0]["rate"] is None
    assert served.open("/v1/stream?since=1h").event()[0] == "place"


def test_a_frame_names_the_largest_topics_only(served, writer):
    reader = served.open("/v1/stream?after=0")
    writer.store([many([b"x"] * (n + 1), topic=f"t{n}") for n in range(120)])
    (frame,) = reader.frames(120 * 121 // 2)
    assert frame["topics"] == 120
    assert list(frame["by_topic"].items())[:2] == [("t119", 120), ("t118", 119)]
    assert len(frame["by_topic"]) == 50


# --- what is asked, and by whom -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("all=2", "all: expected one of 0, 1"),
        ("after=xyz", "after: not a cursor"),
        ("after=" + seq_cursor(1000), "later than all that is stored"),
        ("since=yesterday", "since: expected"),
        ("topic=UPPER", "topic: expected up to 100 topics"),
        ("limit=1", "unknown query parameter 'limit'"),
        ("all=1&all=1", "all: expected once"),
        ("&".join(f"a{n}" for n in range(50)), "too many parameters"),
    ],
)
def test_a_wish_that_no_stream_can_have_is_refused_with_words(served, query, words):
    reader = served.open(f"/v1/stream?{query}")
    problem = reader.problem()
    assert (reader.status, problem["status"]) == (400, 400)
    assert words in problem["detail"]


def test_a_later_cursor_in_the_header_is_refused(served):
    assert served.open("/v1/stream", Last_Event_ID=seq_cursor(9)).status == 400
    assert served.open("/v1/stream", Last_Event_ID="\xff\xfe").status == 400


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/topics/UPPER/stream", 400),
        ("/v1/topics//stream", 400),
        ("/v1/topics/a%2Fb/stream", 400),
        ("/v1/topics/t/stream?topic=t", 400),
    ],
)
def test_an_address_of_no_topic_is_refused(served, path, status):
    assert served.open(path).status == status


def test_a_stream_needs_a_token_that_may_read(served):
    row = TokenRow("sender", ("publish",), ("*",), None, TIME, None, None)
    rows = AccessRows(1, [TokenKey(hashed(READ_TOKEN.encode()), row)], [])
    served.authorizer.put(AccessSnapshot.of(rows, time.time()))
    assert served.open(token=READ_TOKEN).status == 403
    assert served.open(token="wrong").status == 401


def test_a_stream_ends_within_a_second_when_its_token_is_revoked(served, writer):
    give_token(served, "*")
    readers = [served.open(f"/v1/stream?all={n % 2}", READ_TOKEN) for n in range(8)]
    kept = served.open("/v1/stream?all=1")
    open_soon(served, 9)
    served.authorizer.put(AccessSnapshot.of(AccessRows(2, [], []), time.time()))
    begin = time.monotonic()
    for reader in readers:
        assert reader.event()[0] == "place"
        with pytest.raises((ConnectionError, ValueError)):
            reader.event()
    assert time.monotonic() - begin < 1
    writer.store([one(b"still")])
    assert bodies(kept.messages(1)) == [b"still"]


@pytest.mark.parametrize("form", [0, 1])
def test_a_page_s_stream_ends_within_a_second_when_its_session_does(served, form):
    """Its token counts on."""
    digest, far = hashed(b"secret"), "2999-01-01T00:00:00.000Z"
    token = TokenKey(hashed(b"u" * 32), TokenRow("ops", ("read",), ("*",), None, TIME, None, None))
    session = SessionRow(digest, token.digest, "ops", "", "", TIME, far, TIME)
    served.authorizer.put(AccessSnapshot.of(AccessRows(1, [token], [], (), [session]), time.time()))
    cookie = {"Cookie": "appliance_session=secret"}
    reader = served.open(f"/v1/stream?all={form}", token=None, **cookie)
    assert reader.event()[0] == "place"
    served.authorizer.put(AccessSnapshot.of(AccessRows(2, [token], []), time.time()))
    begin = time.monotonic()
    with pytest.raises((ConnectionError, ValueError)):
        reader.event()
    assert time.monotonic() - begin < 1
    assert served.open(token=None, **cookie).status == 401
    other_site = {**cookie, "Sec_Fetch_Site": "cross-site"}
    assert served.open(token=None, **other_site).status == 401


def test_a_head_shows_how_a_stream_would_begin(served):
    headers = {"Authorization": f"Bearer {'t' * 32}"}
    url = f"http://127.0.0.1:{served.port}/v1/stream"
    answer = httpx.head(url, headers=headers, trust_env=False)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert "no-transform" in answer.headers["cache-control"]
    assert answer.headers["x-accel-buffering"] == "no"
    assert httpx.post(url, headers=headers, trust_env=False).status_code == 405
    assert served.tally.open == 0


# --- bounds ---------------------------------------------------------------------------------------


def test_one_stream_too_many_is_refused_with_words_and_let_in_later(serve):
    served = serve(max_streams="8")
    readers = [served.open() for _ in range(8)]
    open_soon(served, 8)
    refused = served.open()
    problem = refused.problem()
    assert refused.status == 503
    assert problem["type"].endswith(":too-many-streams")
    assert "8 streams are open, and there can be 8" in problem["detail"]
    assert refused.headers["retry-after"] == "10"
    readers[0].close()
    open_soon(served, 7)
    assert served.open().event()[0] == "place"


def test_some_streams_are_left_for_administrators(serve):
    served = serve(max_streams="8")
    give_token(served, "*")
    statuses = [served.open(token=READ_TOKEN) for _ in range(8)]
    assert [each.status for each in statuses].count(200) == 6
    assert served.open().status == 200


def test_a_client_that_leaves_is_counted_no_more_at_once(served):
    for form in (0, 1):
        readers = [served.open(f"/v1/stream?all={form}") for _ in range(20)]
        open_soon(served, 20)
        for reader in readers:
            reader.close()
        open_soon(served, 0)


def test_a_client_that_does_not_read_holds_up_nobody_and_costs_little(served, writer):
    slow = served.open("/v1/stream?all=1")
    assert slow.event()[0] == "place"
    quick = served.open("/v1/stream?all=1")
    assert quick.event()[0] == "place"
    body = b"x" * 50_000
    for _ in range(40):
        writer.store([many([body] * 10)])
        assert len(quick.messages(10)) == 10
    assert served.hub._held_bytes < 400_000
    writer.store([one(b"last")])
    found = slow.messages(401)
    assert (len(found), found[-1]["body"]) == (401, "last")


def test_the_slowest_client_ends_where_they_hold_too_much_and_goes_on_later(
    served, writer, monkeypatch
):
    monkeypatch.setattr(hub, "_HELD_BYTES", 100_000)
    slow = [served.open("/v1/stream?all=1", buffer=4096) for _ in range(4)]
    open_soon(served, 4)
    sent = 0
    while served.tally.open == 4:
        assert sent < 2000
        writer.store([many([b"%d" % n + b"x" * 60_000 for n in range(sent, sent + 10)])])
        sent += 10
    wait_until(lambda: served.hub._held_bytes <= 200_000, "they hold little", 10)
    writer.store([one(b"%d" % sent)])
    ended = 0
    for reader in slow:
        seen, here = [], reader
        while not seen or seen[-1] < sent:
            try:
                event = here.event()
            except (OSError, ValueError):
                event = None
            if event is None:
                here = served.open("/v1/stream?all=1", Last_Event_ID=here.last_id)
                ended += 1
            elif event[0] == "message":
                seen.append(int(event[1]["body"].rstrip("x")))
        assert seen == list(range(sent + 1))
        here.close()
    assert ended


def test_new_messages_are_read_once_for_all_who_are_up_to_date(served, writer, monkeypatch):
    readers = [served.open("/v1/stream?all=1") for _ in range(30)]
    for reader in readers:
        assert reader.event()[0] == "place"
    open_soon(served, 30)
    asked = []
    follower = served.hub._source._follower
    part = follower.part
    monkeypatch.setattr(follower, "part", lambda *how: asked.append(how) or part(*how))
    for n in range(5):
        writer.store([one(b"%d" % n)])
        for reader in readers:
            assert bodies(reader.messages(1)) == [b"%d" % n]
    assert len(asked) <= 6


def test_nothing_is_looked_at_while_nobody_listens(served, writer, monkeypatch):
    follower = served.hub._source._follower
    asked = []
    end = follower.end
    monkeypatch.setattr(follower, "end", lambda: asked.append(1) or end())
    reader = served.open("/v1/stream?all=1")
    assert reader.event()[0] == "place"
    reader.close()
    open_soon(served, 0)
    wait_until(served.hub._running.done, "it looks no more", 5)
    count = len(asked)
    time.sleep(0.3)
    assert len(asked) == count
    writer.store([one(b"later")])
    assert served.open("/v1/stream?all=1&after=0").messages(1)


def test_events_that_are_kept_for_others_are_bounded(served, writer, monkeypatch):
    monkeypatch.setattr(source, "_KEPT_BYTES", 100_000)
    readers = [served.open("/v1/stream?all=1&after=0") for _ in range(5)]
    for n in range(100):
        writer.store([one(b"%d" % n + b"x" * 10_000)])
    for reader in readers:
        assert [int(each["body"].rstrip("x")) for each in reader.messages(100)] == list(range(100))
    assert served.hub._source._kept_bytes <= 200_000


# --- silence, trouble, the end --------------------------------------------------------------------


def test_a_silent_stream_says_that_it_is_there_and_where_it_is(serve, writer, monkeypatch):
    monkeypatch.setattr(hub, "_SILENCE_SECONDS", 0.2)
    monkeypatch.setattr(hub, "_TICK_SECONDS", 0.1)
    served = serve()
    reader = served.open("/v1/topics/quiet/stream?all=1")
    assert reader.block().startswith(b"retry: 1000\nid: ")
    assert reader.block() == b":"
    writer.store([one(b"elsewhere")])
    name, data = reader.event()
    assert (name, data["cursor"]) == ("place", seq_cursor(1))


def test_streams_end_whole_when_the_server_stops(served, writer):
    readers = [served.open(f"/v1/stream?all={n % 2}") for n in range(6)]
    open_soon(served, 6)
    begin = time.monotonic()
    served.stop()
    assert time.monotonic() - begin < 4
    for reader in readers:
        assert reader.event()[0] == "place"
        assert reader.event() is None


def test_a_stream_goes_on_after_the_store_could_not_be_read(served, writer, monkeypatch):
    reader = served.open("/v1/stream?all=1")
    assert reader.event()[0] == "place"
    follower = served.hub._source._follower
    end, failures = follower.end, []

    def fail():
        failures.append(1)
        raise StoreError("locked")

    monkeypatch.setattr(follower, "end", fail)
    wait_until(lambda: len(failures) > 2, "it has failed", 10)
    assert served.open().status == 503
    monkeypatch.setattr(follower, "end", end)
    writer.store([one(b"after")])
    assert bodies(reader.messages(1)) == [b"after"]


def test_a_stream_over_http_1_0_ends_with_its_connection(served, writer):
    with socket.create_connection(("127.0.0.1", served.port), 10) as link:
        link.sendall(
            b"GET /v1/stream?all=1&after=0 HTTP/1.0\r\nAuthorization: Bearer "
            + b"t" * 32
            + b"\r\n\r\n"
        )
        writer.store([one(b"hello")])
        data = b""
        while b"hello" not in data:
            data += link.recv(10_000)
    assert b"chunked" not in data
    assert b'"body":"hello"' in data
