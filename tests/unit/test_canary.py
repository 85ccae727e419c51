"""The canary is sent over HTTP, must become a row, and leaves no trace in lists and counts."""

import dataclasses
import http.server
import json
import threading

import pytest
import ready_made

from appliance import config as configuration
from appliance.alerts.alert_conditions import AlertConditions
from appliance.canary.sender import Canary
from appliance.model.ids import IdSource
from appliance.model.topics import CANARY_BEGIN, CANARY_TOPIC
from appliance.model.wire import single
from appliance.proofs import canary_book
from appliance.store import open_store
from appliance.store.rows import Followed

TIME = "2026-01-02T03:04:05.678Z"
IDS = IdSource()


class Api(http.server.BaseHTTPRequestHandler):
    """Answers as the server's `answer` says; with status 201 it stores what came."""

    def do_POST(self):
        server = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server.asked.append((self.path, dict(self.headers), body))
        message_id = IDS.new()
        if server.stores:
            put(server.store, single(CANARY_TOPIC, message_id, TIME, body))
        text = server.text or json.dumps({"id": message_id, "detail": "the disk is full"})
        self.send_response(server.status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


def put(store, *envelopes):
    writer = store.open_writer()
    writer.store(envelopes)
    writer.close()


@pytest.fixture
def api():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api)
    server.asked, server.status, server.stores, server.text = [], 201, True, ""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def make(tmp_path, api):
    """Returns a canary with these settings, of a store with two messages."""

    def make(**settings):
        url = f"http://127.0.0.1:{api.server_port}/inbox"
        values = {"public_url": url, "canary_every": "1m", **settings}
        environ = {f"APPLIANCE_{name.upper()}": value for name, value in values.items()}
        config = configuration.load({"APPLIANCE_DATA": str(tmp_path), **environ})
        store = open_store(config)
        ready_made.migrate(store.path)
        put(store, *(single("orders", IDS.new(), TIME, b"{}") for _ in range(2)))
        api.store = store
        canary = Canary(config, store)
        canary.config, canary.store = config, store
        return canary

    return make


def alerts(canary):
    found = AlertConditions(canary.config, canary.store.reader).now()
    return [each.text for each in found if each.kind == "canary"]


def test_a_canary_becomes_a_row_and_leaves_lists_and_counts_as_they_were(make, api):
    canary = make()
    before = canary.store.reader.totals()
    book = canary.send()
    ((path, headers, body),) = api.asked
    assert path == "/inbox/v1/topics/appliance.canary/messages"
    assert headers["Prefer"] == "wait=10"
    secret = (canary.config.data / "canary-token").read_text().strip()
    assert headers["Authorization"] == f"Bearer {secret}"
    assert body.decode().startswith(CANARY_BEGIN)
    assert json.loads(body)
    assert (book.failures, book.reason, book.url) == (0, None, book.url)
    assert 0 < book.seconds < 30
    after = canary.store.reader.totals()
    assert dataclasses.replace(after, database_bytes=before.database_bytes) == before
    assert [each.topic for each in canary.store.reader.topics()] == ["orders"]
    assert canary_book.read(canary.config) == book
    assert canary.numbers().gauges["canary_duration_seconds"] == book.seconds


@pytest.mark.parametrize(
    ("status", "stores", "text", "reason"),
    [
        (202, False, "", "accepted, and not stored within 10 seconds"),
        (503, False, "", "the disk is full"),
        (502, False, "<html>", "HTTP status 502"),
        (201, False, "", "no such row is in the database of this appliance"),
        (201, False, "<html>", "the answer is not from the appliance's API"),
        (201, False, "[]", "the answer is not from the appliance's API"),
    ],
)
def test_a_canary_that_becomes_no_row_says_why(make, api, status, stores, text, reason):
    canary = make()
    api.status, api.stores, api.text = status, stores, text
    book = canary.send()
    assert reason in book.reason
    assert (book.failures, canary.numbers().counters) == (1, {"canary_failed_total": 1})


def test_a_token_of_a_canary_may_do_nothing_else_and_is_made_anew_where_it_is_refused(make, api):
    canary = make()
    canary.send()
    canary.send()
    (token,) = canary.store.access.tokens()
    assert (token.name, token.rights, token.topics) == (
        "appliance.canary", ("publish",), (CANARY_TOPIC,),
    )  # fmt: skip
    api.status, api.stores = 401, False
    canary.send()
    api.status, api.stores = 201, True
    assert canary.send().failures == 0
    used = [headers["Authorization"] for _, headers, _ in api.asked]
    assert used[0] == used[1] == used[2] != used[3]
    assert len(canary.store.access.tokens()) == 1
    assert (canary.config.data / "canary-token").stat().st_mode & 0o777 == 0o600


def test_the_second_canary_that_fails_is_an_alert_until_one_is_stored(make, api):
    canary = make()
    canary.send()
    api.status, api.stores = 503, False
    first = canary.send()
    assert alerts(canary) == []
    second = canary.send()
    assert (second.failures, second.failing_since) == (2, first.failing_since)
    assert second.last_good_at is not None
    (text,) = alerts(canary)
    assert "the disk is full" in text
    assert "appliance doctor" in text
    api.status, api.stores = 201, True
    canary.send()
    assert alerts(canary) == []


def test_a_canary_whose_address_nobody_listens_on_fails_in_words(make):
    book = make(public_url="http://127.0.0.1:9").send()
    assert "ConnectionRefusedError" in book.reason


def test_a_canary_that_came_late_is_removed_with_the_next_one(make, api):
    canary = make()
    put(canary.store, single(CANARY_TOPIC, IDS.new(), TIME, f'{CANARY_BEGIN}"x"}}'.encode()))
    assert canary.send().failures == 0
    assert canary.store.reader.totals().topics == 1


def test_a_message_that_others_send_to_the_canaries_topic_stays(make):
    canary = make()
    put(canary.store, single(CANARY_TOPIC, IDS.new(), TIME, b"mine"))
    assert canary.send().failures == 0
    (topic,) = [t for t in canary.store.reader.topics() if t.topic == CANARY_TOPIC]
    assert topic.messages == 1


def test_those_who_follow_all_topics_see_no_canary_and_those_who_ask_for_it_do(make):
    store = make().store
    put(store, single(CANARY_TOPIC, IDS.new(), TIME, f'{CANARY_BEGIN}"x"}}'.encode()))
    end = store.follower.end()

    def seen(followed):
        return {row.topic for row in store.follower.part(followed, 0, end).rows}

    assert seen(Followed(None)) == {"orders"}
    assert seen(Followed(CANARY_TOPIC)) == {CANARY_TOPIC}
    assert set(store.follower.glance(Followed(None), 0, end, 5).counts) == {"orders"}


def test_a_book_of_a_canary_is_not_shown_once_none_is_sent(make, tmp_path):
    canary = make()
    canary.send()
    off = configuration.load({"APPLIANCE_DATA": str(tmp_path)})
    assert canary_book.state(off) is None
    assert canary_book.state(canary.config)["failures"] == 0
