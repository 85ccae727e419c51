"""Refusals are counted, slowed and logged within bounds; rates are kept in buckets."""

import structlog

from appliance.auth import rates, refusal_counts
from appliance.auth.principal import Principal, Right
from appliance.auth.rates import Buckets
from appliance.auth.refusal_counts import Refusals
from appliance.model.grants import Rate


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def noted(clock=None):
    return Refusals(clock or Clock())


def reported(one):
    with structlog.testing.capture_logs() as logs:
        one.report()
    return logs


def test_an_address_is_slowed_after_some_refusals_until_it_has_rested():
    clock = Clock()
    one = noted(clock)
    slowed = [one.note("192.0.2.1", "unauthorized") for _ in range(22)]
    assert slowed == [False] * 20 + [True] * 2
    assert one.totals == {"unauthorized": 22, "slowed": 2}
    clock.now += 2
    assert not one.note("192.0.2.1", "unauthorized")
    assert one.note("192.0.2.1", "unauthorized")


def test_a_client_that_tries_every_two_seconds_is_never_slowed():
    clock = Clock()
    one = noted(clock)
    for _ in range(1000):
        assert not one.note("192.0.2.1", "unauthorized")
        clock.now += 2


def test_the_addresses_of_one_ipv6_network_are_one():
    one = noted()
    for n in range(20):
        one.note(f"2001:db8::{n:x}", "unauthorized")
    assert one.note("2001:db8::ffff", "unauthorized")
    assert not one.note("2001:db8:0:1::1", "unauthorized")
    assert not one.note("fe80::1%eth0", "unauthorized")
    assert not one.note("no:address", "unauthorized")


def test_the_table_is_bounded_and_forgets_who_was_refused_longest_ago(monkeypatch):
    monkeypatch.setattr(refusal_counts, "_MAX_ADDRESSES", 3)
    one = noted()
    for n in (1, 2, 3, 1, 4):
        one.note(f"192.0.2.{n}", "unauthorized")
    assert list(one._addresses) == ["192.0.2.3", "192.0.2.1", "192.0.2.4"]
    logs = reported(one)
    assert sum(log.get("count", 0) for log in logs) == 4
    assert logs[-1]["reasons"] == {"unauthorized": 1}  # of the one that is forgotten


def test_a_report_names_the_addresses_with_the_most_refusals_in_a_few_lines():
    one = noted()
    for n in range(20):
        for _ in range(n + 1):
            one.note(f"192.0.2.{n}", "forbidden" if n % 2 else "unauthorized")
    logs = reported(one)
    assert [log["event"] for log in logs] == ["requests refused"] * 5 + ["more requests refused"]
    assert (logs[0]["address"], logs[0]["count"]) == ("192.0.2.19", 20)
    assert logs[-1]["addresses"] == 15
    assert sum(logs[-1]["reasons"].values()) == sum(range(1, 16))
    assert reported(one) == []


def test_an_address_is_reported_once_a_minute():
    clock = Clock()
    one = noted(clock)
    lines = []
    for _ in range(60):  # ten minutes
        one.note("192.0.2.1", "unauthorized")
        lines += reported(one)
        clock.now += 10
    assert len(lines) == 10
    assert sum(line["count"] for line in lines) >= 54


THREE_A_MINUTE = Rate(3, 60)


def principal(name="a", rate=THREE_A_MINUTE):
    return Principal(name, frozenset({Right.PUBLISH}), rate=rate)


def test_a_bucket_gives_its_rate_at_once_and_then_evenly():
    buckets = Buckets()
    assert [buckets.wait(principal(), 0.0) for _ in range(4)] == [0.0, 0.0, 0.0, 20.0]
    assert buckets.wait(principal(), 10.0) == 10.0
    assert buckets.wait(principal(), 20.0) == 0.0
    assert buckets.wait(principal(), 20.0) == 20.0
    assert [buckets.wait(principal(), 900.0) for _ in range(4)].count(0.0) == 3


def test_a_principal_without_a_rate_has_no_bucket_and_others_have_their_own():
    buckets = Buckets()
    assert [buckets.wait(principal(rate=None), 0.0) for _ in range(100)] == [0.0] * 100
    assert buckets._buckets == {}
    for name in "ab":
        assert buckets.wait(principal(name, Rate(1, 1)), 0.0) == 0.0


def test_full_buckets_make_room(monkeypatch):
    monkeypatch.setattr(rates, "_MAX_BUCKETS", 10)
    buckets = Buckets()
    for n in range(10):
        buckets.wait(principal(str(n), Rate(1, 1)), 0.0)
    buckets.wait(principal("new", Rate(1, 1)), 5.0)
    assert len(buckets._buckets) == 1
