"""Alerts are told once, and once when they are over, whatever is restarted in between."""

import contextlib
import http.server
import json
import threading
import time

import pytest
import ready_made
from harness import wait_until

from appliance import config as configuration
from appliance.alerts import webhook
from appliance.alerts.alert_book import AlertBook, raised
from appliance.alerts.alert_condition import AlertCondition
from appliance.alerts.alert_watch import AlertWatch
from appliance.config.parsers import webhook_url
from appliance.errors import UndeliveredError
from appliance.machine.pulse import Pulse
from appliance.metrics import board
from appliance.metrics.board import Numbers
from appliance.model.expectations import parse_expectations
from appliance.model.ids import key_prefix
from appliance.model.timestamps import timestamp
from appliance.model.wire import Envelope, Kind
from appliance.operations.endpoint_desk import EndpointDesk
from appliance.store import open_store
from appliance.store.access_rows import Actor
from appliance.store.endpoint_rows import GONE_REASON
from appliance.store.sqlite.database import connect


@pytest.fixture
def make(tmp_path):
    """Returns a config with these settings."""

    def make(**settings):
        named = {f"APPLIANCE_{name.upper()}": value for name, value in settings.items()}
        return configuration.load(
            {"APPLIANCE_DATA": str(tmp_path), "APPLIANCE_MIN_FREE_BYTES": "0", **named}
        )

    return make


@pytest.fixture
def living(make):
    """The signs of an API and a worker."""
    with contextlib.ExitStack() as stack:
        for process in ("api", "worker"):
            stack.enter_context(Pulse(make(), process, environ={}))
        yield


@pytest.fixture
def watch(make, living):
    """Returns a watch whose news are in its list `sent`."""

    def start(*, endpoints=False, **settings):
        config = make(alert_url="http://127.0.0.1:1/", **settings)
        store = open_store(config)
        ready_made.migrate(store.path)
        made = AlertWatch(
            config, store.reader, lambda _url, news, _version: sent.append(news),
            store.endpoints if endpoints else None,
        )  # fmt: skip
        made.store, made.sent = store, sent
        return made

    sent = []
    return start


def told(one):
    return [(n.alert.kind, n.alert.subject, "over" if n.is_over else "raised") for n in one.sent]


def put(store, topic, ago):
    writer = store.open_writer()
    moment = timestamp(time.time() - ago)
    message = key_prefix(topic, f"{ago}{time.time()}") + "00000000"
    writer.store([Envelope(topic, Kind.MESSAGE, message, moment, 1, 1, b"x")])
    writer.close()


# --- expectations


@pytest.mark.parametrize(
    ("text", "of"),
    [
        ("", {}),
        ("orders: every=5m", {"orders": 300, "orders2": None}),
        (" till-*: every=1h ; *: every=1d;", {"till-7": 3600, "x": 86400}),
    ],
)
def test_expectations_are_those_of_the_first_pattern_that_matches(text, of):
    expect = parse_expectations(text)
    for topic, seconds in of.items():
        found = expect.of(topic)
        assert (found and found.seconds) == seconds


@pytest.mark.parametrize(
    "text",
    ["orders", "orders: 5m", "orders: every=", "orders: every=1s", "Ö: every=5m",
     "a: every=5m; a: every=6m", "a: every=400d", ": every=5m", "a: every=5m x"],
)  # fmt: skip
def test_expectations_that_are_none_are_refused_in_words(text):
    with pytest.raises(ValueError, match=r"expected|pattern|twice"):
        parse_expectations(text)


@pytest.mark.parametrize("value", ["ftp://x/", "http://user:secret@host/", "x", "http://"])
def test_webhook_that_is_no_url_is_refused(value):
    with pytest.raises(ValueError, match="expected"):
        webhook_url(value)


# --- the book


def test_alert_is_news_once_and_once_more_when_it_is_over(make):
    book = AlertBook(make())
    condition = AlertCondition("disk", "data", "3 bytes")
    assert [n.is_over for n in book.update([condition], 0.0)] == [False]
    assert book.update([AlertCondition("disk", "data", "2 bytes")], 10.0) == []
    assert book.raised["disk:data"].text == "2 bytes"
    assert book.raised["disk:data"].since == timestamp(0.0)
    assert [n.is_over for n in book.update([], 20.0)] == [True]
    assert book.update([], 30.0) == []


def test_condition_that_must_last_is_no_news_before_and_forgotten_when_it_ends(make):
    book = AlertBook(make())
    condition = AlertCondition("broker", "", "away", patience=60.0)
    assert book.update([condition], 0.0) == []
    assert book.update([], 50.0) == []
    assert book.update([condition], 70.0) == []
    assert book.update([condition], 129.0) == []
    assert len(book.update([condition], 131.0)) == 1


@pytest.mark.parametrize("content", ["", "{", "[]", '{"raised":[{}],"pending":[]}', '{"raised":1}'])
def test_book_that_is_damaged_is_begun_anew(make, content):
    config = make()
    config.run_folder.mkdir(parents=True)
    (config.run_folder / "alerts.json").write_text(content)
    assert AlertBook(config).raised == {}
    assert raised(config) == []


# --- conditions


def test_topic_that_is_silent_for_too_long_raises_an_alert_until_a_message_comes(watch):
    one = watch(expect="orders: every=5m")
    put(one.store, "orders", 600)
    put(one.store, "others", 600)
    one._conditions._began = 0.0
    for _ in range(3):
        one.look(time.time())
    assert told(one) == [("silence", "orders", "raised")]
    assert "no message for 10 min; one is expected every 5 min" in one.sent[0].alert.text
    assert one.numbers().gauges == {"alert_active:silence:orders": 1}
    put(one.store, "orders", 1)
    one.look(time.time())
    assert told(one)[1:] == [("silence", "orders", "over")]
    assert one.numbers().gauges == {}


def test_restart_says_nothing_twice_and_gives_other_topics_their_time(watch):
    one = watch(expect="orders: every=5m; new: every=5m")
    put(one.store, "orders", 600)
    one._conditions._began = time.time() - 400
    one.look(time.time())
    assert told(one) == [("silence", "orders", "raised"), ("silence", "new", "raised")]
    again = watch(expect="orders: every=5m; new: every=5m; third: every=5m")
    again.look(time.time())
    assert len(again.sent) == 2
    put(again.store, "new", 1)
    again.look(time.time())
    assert told(again)[2:] == [("silence", "new", "over")]


def test_many_silent_topics_are_one_alert(watch):
    one = watch(expect="*: every=5m")
    one._conditions._began = 0.0
    for number in range(25):
        put(one.store, f"t{number}", 600)
    one.look(time.time())
    assert [n.alert.text for n in one.sent] == ["25 topics are silent"]


def test_lag_and_dead_letters_are_seen_on_the_board(watch, make):
    one = watch()
    counters = {"messages_dead_total:schema": 5, "messages_quarantined_total": 2}
    gauges = {"queue_oldest_age_seconds": 301.0, "store_holding_seconds": 61.0}
    with board.shown(make(), "worker", lambda: Numbers(dict(counters), gauges=dict(gauges))):
        one.look(time.time())
        assert told(one) == [("lag", "queue", "raised"), ("lag", "store", "raised")]
        counters["messages_dead_total:schema"] += 1
        gauges.clear()
        wait_until(lambda: board.totals(make()).gauges == {}, "the board shows it")
        one.look(time.time())
    assert told(one)[2:] == [
        ("dead-letters", "", "raised"), ("lag", "queue", "over"), ("lag", "store", "over"),
    ]  # fmt: skip
    one._conditions._died_at -= 901
    one.look(time.time())
    assert told(one)[-1] == ("dead-letters", "", "over")


def endpoints_of(store, *names):
    """Make endpoints; return a function that changes the row of one by SQL."""
    desk = EndpointDesk(store.endpoints, lambda: 0, ())
    for name in names:
        desk.create(name, {"url": "https://example.com/"}, Actor("administrator", "127.0.0.1"))

    def change(name, **values):
        link = connect(store.path, readonly=False)
        for column, value in values.items():
            link.execute(f"UPDATE endpoints SET {column} = ? WHERE name = ?", (value, name))
        link.close()

    return change


def test_an_endpoint_that_fails_for_long_raises_an_alert_under_its_name(watch, make):
    one = watch(endpoints=True)
    change, now = endpoints_of(one.store, "erp", "shop"), time.time()
    with Pulse(make(), "deliver", environ={}):
        change("erp", broken_at=now - 599)
        change("shop", broken_at=now - 721, trouble="it answered 500")
        one.look(now)
        assert told(one) == [("endpoint", "shop", "raised")]
        assert one.sent[0].alert.text == (
            "it has taken no messages for 12 min (it answered 500): appliance endpoint show shop"
        )
        change("shop", broken_at=None)
        one.look(now + 10)
        assert told(one)[1:] == [("endpoint", "shop", "over")]


def test_messages_given_up_and_an_endpoint_that_answered_410_raise_an_alert(watch, make):
    one = watch(endpoints=True)
    change, now = endpoints_of(one.store, "erp", "shop"), time.time()
    change("erp", given_up=3)  # before the first look
    with Pulse(make(), "deliver", environ={}):
        one.look(now)
        assert told(one) == []
        change("erp", given_up=4)
        change("shop", state="paused", reason=GONE_REASON)
        one.look(now + 10)
        assert sorted(told(one)) == [("endpoint", "erp", "raised"), ("endpoint", "shop", "raised")]


def test_many_endpoints_that_fail_are_one_alert(watch, make):
    one = watch(endpoints=True)
    names = [f"e{number}" for number in range(21)]
    change, now = endpoints_of(one.store, *names), time.time()
    for name in names:
        change(name, broken_at=now - 700)
    with Pulse(make(), "deliver", environ={}):
        one.look(now)
    assert told(one) == [("endpoint", "", "raised")]


def test_an_active_endpoint_without_a_process_that_delivers_raises_an_alert_after_a_minute(watch):
    one = watch(endpoints=True)
    change = endpoints_of(one.store, "erp")
    one.look(1000.0)
    one.look(1061.0)
    assert told(one) == [("heartbeat", "deliver", "raised")]
    change("erp", state="paused")
    one.look(1070.0)
    assert told(one)[1:] == [("heartbeat", "deliver", "over")]


def test_quarantined_letters_which_strangers_can_make_raise_nothing(watch, make):
    one = watch()
    for number in (1, 2, 3):
        words = ("messages_dead_total:bad-signature", "messages_quarantined_total")
        counters = dict.fromkeys(words, number)
        with board.shown(make(), "worker", lambda c=counters: Numbers(c)):
            one.look(time.time())
    assert told(one) == []


def test_disk_below_twice_its_floor_raises_an_alert(watch):
    one = watch(min_free_bytes="1000TiB")
    one.look(time.time())
    assert told(one) == [("disk", "data", "raised")]


def test_process_that_is_gone_for_a_minute_raises_an_alert(make):
    config = make(alert_url="http://127.0.0.1:1/")
    store, sent = open_store(config), []
    one = AlertWatch(config, store.reader, lambda _u, news, _v: sent.append(news))
    one.look(1000.0)
    assert sent == []
    one.look(1061.0)
    assert [(n.alert.kind, n.alert.subject) for n in sent] == [
        ("heartbeat", "api"), ("heartbeat", "worker"),
    ]  # fmt: skip


# --- delivery


class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, dict(self.headers), body))
        self.send_response(self.server.statuses.pop(0) if self.server.statuses else 204)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def hook():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    server.got, server.statuses = [], []
    server.url = f"http://127.0.0.1:{server.server_port}/hook/secret?x=1"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def news(make):
    return AlertBook(make()).update([AlertCondition("disk", "data", 'full "so"\n')], 0.0)[0]


def test_webhook_gets_words_for_people_and_members_for_programs(make, hook):
    webhook.send(hook.url, news(make), "1.0")
    ((path, headers, body),) = hook.got
    assert path == "/hook/secret?x=1"
    assert headers["Content-Type"] == "application/json"
    members = json.loads(body)
    assert members["text"].startswith("Alert: disk data on ")
    assert members["type"] == "alert.raised"
    assert (members["alert"], members["subject"], members["detail"]) == (
        "disk",
        "data",
        'full "so"\n',
    )


@pytest.mark.parametrize(
    ("status", "is_final"), [(503, False), (429, False), (302, True), (404, True)]
)
def test_webhook_that_does_not_take_it_is_not_followed(make, hook, status, is_final):
    hook.statuses.append(status)
    with pytest.raises(UndeliveredError, match=str(status)) as caught:
        webhook.send(hook.url, news(make), "1.0")
    assert caught.value.is_final is is_final
    assert len(hook.got) == 1


def test_news_wait_for_a_webhook_that_is_away_in_order_and_through_a_restart(make, hook, living):
    config = make(alert_url=hook.url, expect="a: every=5m; b: every=5m")
    store = open_store(config)
    ready_made.migrate(store.path)
    one = AlertWatch(config, store.reader)
    one._conditions._began = 0.0
    hook.statuses += [500, 500]
    one.look(time.time())
    put(store, "a", 1)
    one.look(time.time())  # too soon for another attempt
    assert len(hook.got) == 1
    again = AlertWatch(config, store.reader)
    again.look(time.time())
    again._again_at = 0.0
    again.look(time.time())
    sent = [json.loads(body) for _, _, body in hook.got]
    assert [(each["type"], each["subject"]) for each in sent[2:]] == [
        ("alert.raised", "a"), ("alert.raised", "b"), ("alert.over", "a"),
    ]  # fmt: skip
    again.look(time.time())
    assert len(hook.got) == 5
