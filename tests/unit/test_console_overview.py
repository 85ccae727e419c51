"""The console's overview and alerts: how it is, how it was, and who is told of what."""

import html
import json
import re
import time

import pytest
from console_client import ConsoleClient
from store_contents import many, one

from appliance import config as configuration
from appliance.alerts.alert_book import AlertBook
from appliance.alerts.alert_conditions import KINDS, AlertCondition
from appliance.console.charts import SPANS, charts, rate
from appliance.console.pages.alerts import ADVICE
from appliance.console.shell import State
from appliance.history.chronicle import Chronicler
from appliance.metrics import board, series
from appliance.model.history_points import HistoryPoint
from appliance.model.tallies import StoreTally
from appliance.store.access_rows import Actor

MINUTE = 1_800_000_000
NOW = MINUTE + 3600 + 30.0
BY = Actor("administrator", "127.0.0.1")


@pytest.fixture
def load(tmp_path):
    def load(**settings):
        named = {f"APPLIANCE_{name.upper()}": value for name, value in settings.items()}
        return configuration.load(
            {"APPLIANCE_DATA": str(tmp_path), "APPLIANCE_MIN_FREE_BYTES": "0", **named}
        )

    return load


@pytest.fixture
def browser(load):
    """Returns a browser that has signed in; the history is told at NOW."""
    made = []

    def start(**settings):
        config = load(**settings)
        client = ConsoleClient(config)
        client.services.chronicler._clock = lambda: NOW
        client.sign_in()
        made.append(client)
        return client

    yield start
    for client in made:
        client.close()


def put(client, *envelopes):
    writer = client.store.open_writer()
    writer.store(envelopes)
    writer.close()


def text_of(page):
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


def sign_in_as_reader(client, *topics):
    """Sign in with a token that may read these topics."""
    _, secret = client.services.tokens.create("some", ["read"], BY, topics=list(topics))
    client.browser.delete_cookie("appliance_session")
    assert client.sign_in(secret).status_code == 303


def keep(client, *minutes_ago, **values):
    for ago in minutes_ago:
        at = int(NOW) // 60 * 60 - 60 * ago
        client.store.history.add(HistoryPoint(at, 60.0, **values))


# --- charts


@pytest.fixture
def told(load):
    """Returns the charts of these points, told at NOW."""

    class Kept:
        def __init__(self, points):
            self._points = points

        def points(self, since, until, _step):
            return [each for each in self._points if since <= each.at < until]

    def told(points, span="1h", floor=0):
        return charts(Chronicler(load(), Kept(points), lambda: NOW), span, floor)

    return told


def minute(number, accepted=60, **values):
    """A point of the minute with this number, of the hour that is told."""
    return HistoryPoint(MINUTE + 60 * number, 60.0, accepted, **values)


def chart(shown, key):
    return next(each for each in shown.charts if each.key == key)


def test_a_line_is_broken_where_nobody_watched_and_not_where_nothing_came(told):
    shown = told([minute(1), minute(2, 0), minute(5), minute(6), minute(7, 120)])
    (accepted, stored) = chart(shown, "rate").lines
    # The picture is 1,000 wide, for 3,631 seconds: a minute is 16.5.
    assert accepted.path == "M16.5 51.5H33V100H49.6M82.6 51.5H115.7V3H132.2"
    assert stored.path == "M16.5 100H49.6M82.6 100H132.2"
    assert chart(shown, "rate").top == "2"
    assert chart(shown, "rate").words == "accepted 2, at most 2; stored 0, at most 0"


def test_a_value_that_is_not_known_breaks_its_line_only(told):
    shown = told([minute(1, p99_seconds=0.5), minute(2), minute(3, p99_seconds=1.0, waiting=4)])
    slow, half, oldest = chart(shown, "lag").lines
    assert re.findall("M", slow.path) == ["M", "M"]
    assert (half.path, oldest.path) == ("", "")
    assert chart(shown, "lag").words == "p99 1 s, at most 1 s"
    assert chart(shown, "waiting").lines[0].path == "M49.6 3H66.1"
    assert chart(shown, "disk").words == "nothing is known"


def test_the_disks_floor_is_a_line_of_its_own(told):
    shown = told([minute(1, disk_free_bytes=4000), minute(2, disk_free_bytes=2000)], floor=1000)
    free, floor = chart(shown, "disk").lines
    assert free.path == "M16.5 3H33V51.5H49.6"
    assert floor.path == "M16.5 75.8H49.6"


@pytest.mark.parametrize("span", SPANS)
def test_a_span_has_so_many_points_that_a_page_stays_small(told, span):
    seconds = SPANS[span][0]
    points = [
        HistoryPoint(int(NOW) // 60 * 60 - ago, 60.0, ago % 997, ago % 991, waiting=ago % 7)
        for ago in range(0, seconds, 60)
    ]
    shown = told(points, span)
    assert shown.span == span
    assert sum(len(line.path) for each in shown.charts for line in each.lines) < 16_000
    assert len(shown.rows) <= 30
    assert all(row.point is not None for row in shown.rows[:-1])
    for each in shown.charts:
        for number in re.findall(r"[-0-9.]+", "".join(line.path for line in each.lines)):
            assert 0 <= float(number) <= 1000


def test_the_table_says_once_where_nobody_watched(told):
    shown = told([minute(1, 5), minute(41, 7)])
    assert [(row.at[11:16], row.cells[:1]) for row in shown.rows] == [
        ("08:45", []), ("08:40", ["7"]), ("08:05", []), ("08:00", ["5"]),
    ]  # fmt: skip


def test_a_span_that_is_none_is_an_hour_and_nothing_draws_nothing(told):
    shown = told([], "<b>")
    assert (shown.span, shown.charts) == ("1h", [])


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "0"), (0.0166, "0.017"), (3.21, "3.2"), (9.96, "10"), (12.4, "12"), (1003, "1,003")],
)
def test_a_rate_has_two_digits_at_least(number, words):
    assert rate(number) == words


# --- the overview


def test_the_overview_shows_the_last_minute_the_hour_and_the_charts(browser):
    client = browser()
    put(client, one(b"x"))
    keep(client, 0, accepted=180, stored=120, p99_seconds=0.009, refused=1)
    keep(client, 30, accepted=60, refused=4)
    text = client.get("/console/").text
    said = text_of(text)
    assert "Accepted a second 3 Stored a second 2" in said
    assert "202 to row, p99 9 ms Refused in an hour 5" in said
    assert text.count("<svg viewBox") == 4
    assert text.count("<desc") == 4
    assert re.search(r'<a href="\?span=1h" aria-current="page">', text)
    assert "nobody watched" in said
    for span in SPANS:
        assert client.get(f"/console/?span={span}").status_code == 200
    assert len(text) < 60 * 1024


def test_a_disk_that_fills_up_is_foretold_on_the_overview(browser):
    client = browser()
    put(client, one(b"x"))
    assert "full in" not in client.get("/console/").text
    client.services.chronicler._forecast = (NOW, time.time() + 5 * 86_400)
    text = text_of(client.get("/console/").text)
    assert "the disk is down to its floor in" in text
    assert "full in" in text


def test_a_token_of_some_topics_sees_no_number_of_the_others(browser):
    client = browser()
    put(client, many([b"a"] * 7, topic="hidden"), one(b"b", topic="shown"))
    keep(client, 0, 1, accepted=777, refused=999)
    book = AlertBook(client.services.config)
    book.update([AlertCondition("silence", "hidden", "no message")], NOW)
    book.keep()
    sign_in_as_reader(client, "shown")
    text = text_of(client.get("/console/").text)
    assert "Messages 1" in text
    for word in ("hidden", "777", "Course", "Accepted", "Waiting", "Disk free", "Alerts"):
        assert word not in text, word
    assert client.get("/console/alerts").status_code == 403
    assert "hidden" not in client.get("/console/state?first=1").text


# --- the state, and the first message


def test_the_state_says_what_the_page_says(browser):
    client = browser()
    answer = client.get("/console/state")
    assert answer.json == {
        "kind": "bad",
        "parts": ["!", "not ready", ": the broker is not connected"],
        "first": None,
    }
    assert answer.headers["Cache-Control"] == "no-store"
    assert "not ready : the broker is not connected" in text_of(client.get("/console/help").text)
    assert State(True, [], 0, 0).shown() == ("ok", ("✓", "ready", ""))


def test_a_page_whose_session_has_ended_is_told_so_and_nothing_else(browser):
    client = browser()
    put(client, one(b"secret"))
    client.browser.delete_cookie("appliance_session")
    answer = client.get("/console/state?first=1")
    assert answer.status_code == 200
    assert answer.json == {"kind": "warn", "parts": ["‖", "signed out", ""], "first": None}


def test_the_first_message_is_told_with_its_size_and_how_soon_it_was_stored(browser):
    client = browser()
    assert client.get("/console/state?first=1").json["first"] is None
    assert 'data-state="/console/state?first=1"' in client.get("/console/").text
    put(client, one(b"hello"))
    words, url = client.get("/console/state?first=1").json["first"]
    assert words == "Got it: 5 bytes. See it"
    assert client.get(url).status_code == 200
    storing = StoreTally()
    storing.lag.observe(0.004)
    numbers = series.of_worker(storing, 0.0)
    with board.shown(client.services.config, "worker", lambda: numbers):
        words, _ = client.get("/console/state?first=1").json["first"]
    assert words == "Got it: 5 bytes, stored 4 ms later. See it"
    assert client.get("/console/state").json["first"] is None
    assert 'data-state="/console/state"' in client.get("/console/").text


# --- alerts


def test_alerts_are_shown_with_what_to_do_and_those_that_are_over(browser):
    client = browser(expect="orders: every=5m; till-*: every=1h", alert_url="http://h/secret-path")
    put(client, one(b"x", topic="orders"), one(b"x", topic="till-1"), one(b"x", topic="other"))
    book = AlertBook(client.services.config)
    lag = AlertCondition("lag", "queue", "waited <b>6 min</b>")
    news = book.update([lag, AlertCondition("silence", "orders", "no message for 6 min")], 1.0)
    book.update([AlertCondition("silence", "orders", "no message for 7 min")], 99.0)
    book.pending = news[:1]
    book.keep()
    text = client.get("/console/alerts").text
    said = text_of(text)
    assert "Messages that are expected do not come: orders" in said
    assert "no message for 7 min. Since 1970-01-01 00:00:01.000" in said
    assert "1970-01-01 00:01:39.000 1970-01-01 00:00:01.000 lag queue waited <b>6 min</b>" in said
    assert "1 notice could not be delivered yet" in said
    assert "orders 5 min" in said
    assert "till-1 1 h" in said
    assert "other" not in said
    assert "webhook of APPLIANCE_ALERT_URL" in said
    assert "secret-path" not in text
    assert 'Alerts <span class="badge">1</span>' in text
    assert "no message for 7 min" in text_of(client.get("/console/").text)


def test_a_topic_that_never_came_is_late_and_comes_first(browser):
    client = browser(expect="never: every=5m; a: every=100d")
    put(client, one(b"x", topic="a", time="2999-01-02T03:04:05.678Z"))
    said = text_of(client.get("/console/alerts").text)
    assert "never 5 min never ! late a 100 d" in said
    assert "✓ in time" in said


def test_the_page_of_alerts_says_what_to_set_where_nothing_is_set(browser):
    said = text_of(browser().get("/console/alerts").text)
    assert "Nothing is raised." in said
    assert "The setting APPLIANCE_EXPECT" in said
    assert "The setting APPLIANCE_ALERT_URL tells a webhook too" in said


def test_every_kind_of_alert_has_its_words():
    assert set(ADVICE) == set(KINDS)


def test_alerts_that_are_over_are_remembered_across_restarts_and_bounded(load):
    config = load()
    for number in range(60):
        book = AlertBook(config)
        book.update([AlertCondition("disk", "data", f"time {number}")], 2.0 * number)
        book.update([], 2.0 * number + 1)
        book.keep()
    kept = json.loads((config.run_folder / "alerts.json").read_text())
    assert [each["alert"]["text"] for each in kept["over"]] == [f"time {n}" for n in range(10, 60)]


def test_a_book_of_an_earlier_version_remembers_none_that_are_over(load):
    config = load()
    config.run_folder.mkdir(parents=True)
    alert = {"kind": "disk", "subject": "data", "text": "t", "since": "2026-01-01T00:00:00.000Z"}
    content = {"raised": [alert], "pending": []}
    (config.run_folder / "alerts.json").write_text(json.dumps(content))
    assert list(AlertBook(config).raised) == ["disk:data"]
