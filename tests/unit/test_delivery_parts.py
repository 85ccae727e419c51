"""The pure parts of delivering: breaker, window of jobs, lanes, settings, requests."""

import itertools
from math import inf

import pytest

from appliance.deliver.breaker import THRESHOLD, Breaker
from appliance.deliver.delivery_numbers import DeliveryNumbers
from appliance.deliver.delivery_request import RequestMaker
from appliance.deliver.jobs import JobWindow
from appliance.deliver.lanes import Lanes
from appliance.errors import InputError
from appliance.model import endpoint_url
from appliance.model.endpoint_settings import (
    EndpointSettings,
    endpoint_conditions,
    endpoint_settings,
    endpoint_topics,
    own_headers,
)
from appliance.store.endpoint_rows import EndpointStanding, LaneRow
from appliance.store.rows import StoredMessage


def message(seq, topic="t", body=b"12345", **changes):
    row = StoredMessage(seq, f"id-{seq}", topic, "", 1, body, None, None)
    return row._replace(**changes)


def breaker():
    return Breaker(lambda: 0.5)


def fail(each, now=1000.0, status=500, wish=None, *, is_probe=False):
    return each.fails("answered", now, status, wish, is_probe=is_probe)


def test_a_breaker_opens_after_failures_in_a_row_and_closes_with_a_good_one():
    one = breaker()
    for _ in range(THRESHOLD - 1):
        assert not fail(one)
    assert not one.succeeds()
    for _ in range(THRESHOLD - 1):
        assert not fail(one)
    assert fail(one)
    assert (one.is_open, one.broken_at, one.retry_at) == (True, 1000.0, 1005.0)
    assert one.succeeds()
    assert (one.is_open, one.failures, one.retry_at, one.trouble) == (False, 0, None, "")


def test_a_probe_that_fails_is_followed_by_a_longer_pause_up_to_an_hour():
    one = breaker()
    for _ in range(THRESHOLD):
        fail(one)
    assert not fail(one, 1001.0)  # was under way: it says nothing new
    assert one.retry_at == 1005.0
    pauses = []
    for _ in range(8):
        assert not fail(one, one.retry_at, is_probe=True)
        pauses.append(one.retry_at)
    steps = [later - earlier for earlier, later in itertools.pairwise(pauses)]
    assert steps == sorted(steps)
    assert steps[-1] == 3600.0
    assert one.broken_at == 1000.0


@pytest.mark.parametrize(
    ("status", "wish", "opens"), [(429, 30.0, 1), (503, 1.0, 1), (429, None, 0)]
)
def test_an_answer_that_asks_to_wait_opens_the_breaker_at_once(status, wish, opens):
    one = breaker()
    assert fail(one, status=status, wish=wish) is bool(opens)
    assert one.is_open is bool(opens)
    if wish:
        assert one.retry_at == 1000.0 + wish * 1.1


def test_the_cursor_of_a_window_stays_below_what_is_not_finished():
    window = JobWindow(4, ordered=False)
    assert (window.cursor, window.has_next) == (4, False)
    window.add([message(5), message(7), message(8)], 10)
    assert (window.cursor, window.bytes) == (4, 15)
    first, second, third = (window.take() for _ in range(3))
    window.finish(second)
    assert window.cursor == 4
    window.finish(first)
    assert window.cursor == 7
    window.put_back(third)
    assert window.take() is third
    window.finish(third)
    assert (window.cursor, window.bytes, len(window)) == (10, 0, 0)


def test_an_ordered_window_has_one_message_of_a_topic_in_hand():
    window = JobWindow(0, ordered=True)
    window.add([message(1, "a"), message(2, "a"), message(3, "b"), message(4, "a")], 4)
    one, three = window.take(), window.take()
    assert (one.message.seq, three.message.seq, window.has_next) == (1, 3, False)
    window.put_back(one)
    assert window.take() is one
    window.finish(one)
    assert window.take().message.seq == 2
    window.finish(three)
    assert window.cursor == 1


def test_a_topic_that_gets_a_lane_leaves_the_window():
    window = JobWindow(0, ordered=True)
    window.add([message(1, "a"), message(2, "b"), message(3, "a")], 3)
    one, two = window.take(), window.take()
    window.leave_topic(one)
    assert (window.cursor, window.has_next) == (1, False)
    window.finish(two)
    assert (window.cursor, window.bytes) == (3, 0)
    window.add([message(4, "a")], 4)  # the lane has ended
    assert window.take().message.seq == 4


def test_a_lane_goes_on_behind_its_message_and_ends():
    lanes = Lanes([])
    lanes.open(LaneRow(1, "a", 6, 1, 100.0, 130.0, "why"))
    assert "a" in lanes
    assert dict(lanes.changes())["a"].cursor == 6
    assert lanes.next(129.0) is None
    assert lanes.next_at == 130.0
    lane = lanes.next(130.0)
    lane.queue.extend([message(7, "a"), message(9, "a")])
    job = lanes.take(lane)
    assert (job.message.seq, job.attempts, job.first_at, job.is_lane) == (7, 1, 100.0, True)
    assert lanes.next(131.0) is None  # it is in hand
    assert lanes.next_at == inf
    lanes.advance("a", 131.0)
    assert dict(lanes.changes())["a"] == LaneRow(1, "a", 7, 0, 0.0, 131.0, "")
    assert lanes.take(lanes.next(131.0)).message.seq == 9
    lanes.advance("a", 132.0)
    lane = lanes.next(132.0)
    assert not lane.queue
    lanes.close(lane)
    assert (len(lanes), dict(lanes.changes()), lanes.next(999.0)) == (0, {"a": None}, None)


def test_settings_of_an_endpoint_have_defaults_and_are_read_back():
    assert endpoint_settings({}) == EndpointSettings()
    given = {
        "ordered": True, "concurrency": 3, "rate": "5/s", "timeout": 9, "lifetime": "2h",
        "headers": ["X-Kind", "x-kind"],
    }  # fmt: skip
    settings = endpoint_settings(given)
    assert settings == EndpointSettings(
        ordered=True, concurrency=3, rate="5/s", timeout=9, lifetime=7200, headers=("x-kind",)
    )
    assert endpoint_settings(settings.members()) == settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ordered", 1), ("concurrency", 0), ("concurrency", 101), ("concurrency", True),
        ("rate", "fast"), ("rate", 5), ("timeout", 61), ("timeout", 1.5), ("lifetime", "31d"),
        ("lifetime", -1), ("lifetime", "long"), ("headers", "x-kind"), ("headers", ["a b"]),
        ("headers", ["host"]), ("headers", ["Webhook-Id"]), ("headers", ["proxy-x"]),
        ("headers", [7]), ("colour", "red"),
    ],
)  # fmt: skip
def test_a_wrong_setting_of_an_endpoint_is_refused_by_its_name(name, value):
    with pytest.raises(InputError, match=name):
        endpoint_settings({name: value})


@pytest.mark.parametrize(
    "value", [{"a": "b\r\nc: d"}, {"a": ""}, {"a": " b"}, {"content-length": "1"}, []]
)
def test_a_header_of_its_own_can_break_no_request_and_is_not_told(value):
    with pytest.raises(InputError) as caught:
        own_headers(value)
    assert "b\r" not in str(caught.value)
    assert own_headers({"Authorization": "Bearer x y"}) == {"authorization": "Bearer x y"}


def test_topics_and_conditions_of_an_endpoint_are_checked():
    assert endpoint_topics(None) == endpoint_topics([]) == ("*",)
    assert endpoint_topics(["orders.*"]) == ("orders.*",)
    assert [str(each) for each in endpoint_conditions(["a.b >= 3"])] == ["a.b>=3"]
    for wrong in ("orders", ["A"], [1]):
        with pytest.raises(InputError, match="topics"):
            endpoint_topics(wrong)
    for wrong in ("a=1", ["nothing"], [1], ["a=1"] * 21):
        with pytest.raises(InputError, match="where"):
            endpoint_conditions(wrong)


def test_a_request_is_one_whatever_another_program_wrote_into_the_row():
    maker = RequestMaker(endpoint_url.read("http://h/p"), ["whsec_YWJj"], ["x-a", "x-b"], [])
    hostile = message(
        1, "t\r\nx: 1", content_type="a\r\nx: 2",
        meta='{"headers":{"x-a":"1\\r\\nx: 3","x-b":"\\u00e9","x-c":"no"}}',
    )  # fmt: skip
    lines = maker.head(hostile, 5).split(b"\r\n")
    assert lines[0] == b"POST /p HTTP/1.1"
    assert lines[-2:] == [b"", b""]
    names = [line.split(b":")[0] for line in lines[1:-2]]
    assert names == [
        b"host", b"user-agent", b"webhook-id", b"webhook-timestamp", b"webhook-signature",
        b"content-length", b"x-b",
    ]  # fmt: skip
    for meta in ("no JSON", "[]", '{"headers":3}', '{"headers":null}'):
        assert maker.head(message(1, meta=meta), 5).endswith(b"\r\n\r\n")


def test_the_numbers_of_deliveries_are_of_all_endpoints_together(monkeypatch):
    shown, clock = DeliveryNumbers(), [1000.0]
    monkeypatch.setattr("appliance.deliver.delivery_numbers.time.time", lambda: clock[0])
    assert shown.numbers().counters["deliveries_total:given-up"] == 0
    shown.add(
        [EndpointStanding(1, delivered=2, failed=1), EndpointStanding(9, delivered=1, given_up=1)]
    )
    shown.look({1: 0, 2: 5}, [])
    clock[0] += 10
    shown.look({1: 3, 2: 7}, [990.0, 1005.0])
    counters, _, gauges = shown.numbers()
    assert counters == {
        "deliveries_total:delivered": 3, "deliveries_total:failed": 1,
        "deliveries_total:given-up": 1, "deliveries_total:gone": 0,
    }  # fmt: skip
    assert gauges == {
        "endpoints_active": 2, "endpoints_failing": 2, "endpoint_failing_age_seconds": 20.0,
        "delivery_lag_messages": 7, "delivery_lag_seconds": 10.0,
    }  # fmt: skip
    shown.look({}, [])
    assert set(shown.numbers().gauges.values()) == {0}
