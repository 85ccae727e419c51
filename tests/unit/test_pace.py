"""The pace of a worker: who sends little waits for nothing, who sends much shares transactions."""

import random

import pytest

from appliance.model.pace import APART_SECONDS, WritePace

SIZE = 200


class Run:
    """Messages that come at times given, and the transactions that store them."""

    def __init__(self, arrivals, took=0.0005, size=SIZE):
        pace, now, place = WritePace(), 0.0, 0
        self.groups, self.waits, self.delays = [], [], []
        while place < len(arrivals):
            now = max(now, arrivals[place])
            wait = pace.wait(now)
            now += wait
            last = place
            while last < len(arrivals) and arrivals[last] <= now:
                last += 1
            pace.begin(now, last - place, size * (last - place))
            now += took
            self.groups.append(last - place)
            self.waits.append(wait)
            self.delays += [now - at for at in arrivals[place:last]]
            place = last


@pytest.mark.parametrize("rate", [1, 200, 1000, 1900])
def test_pace_lets_few_messages_wait_for_nothing(rate):
    run = Run([n / rate for n in range(3 * rate)])
    assert not any(run.waits)


def test_pace_lets_messages_that_come_at_random_hardly_wait():
    chance, now, arrivals = random.Random(1), 0.0, []
    for _ in range(20_000):
        now += chance.expovariate(500)
        arrivals.append(now)
    run = Run(arrivals)
    assert sum(map(bool, run.waits)) < 0.01 * len(run.waits)


@pytest.mark.parametrize("rate", [5_000, 14_000, 30_000])
def test_pace_stores_many_messages_together(rate):
    run = Run([n / rate for n in range(2 * rate)])
    assert 2 / APART_SECONDS * 0.9 < len(run.groups) < 2 / APART_SECONDS * 1.1
    assert max(run.delays) < APART_SECONDS + 0.002


def test_pace_lets_nobody_wait_soon_after_many_messages():
    many = [n / 14_000 for n in range(14_000)]
    run = Run([*many, 1.05, 1.06, 1.07])
    assert run.waits[-3:] == [0.0, 0.0, 0.0]


def test_pace_lets_large_messages_wait_for_nothing():
    run = Run([n / 5_000 for n in range(5_000)], size=128 * 1024)
    assert not any(run.waits)


def test_pace_waits_no_longer_than_transactions_are_apart_whatever_the_clock_says():
    pace = WritePace()
    for now in (100.0, 100.001, 100.002, 99.0, 1e9, 0.0):
        pace.begin(now, 1000, SIZE)
        assert 0.0 <= pace.wait(now) <= APART_SECONDS
