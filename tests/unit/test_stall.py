"""How long the queue of messages has not served an API."""

import pytest

from appliance.broker import probe
from appliance.broker.base import STALL_FACT
from appliance.broker.publish.stall import Stall
from appliance.machine.signs import Sign


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def stall(clock):
    return Stall(clock)


def test_an_envelope_without_an_answer_is_counted_until_it_has_one(stall, clock):
    stall.look(7)
    for _ in range(12):
        clock.now += 1
        stall.look(7)
    assert (stall.seconds, stall.reason) == (12, "no confirm of an envelope")
    stall.look(8)
    assert stall.seconds == 0
    clock.now += 1
    stall.look(0)
    assert (stall.seconds, stall.reason) == (0, "")


def test_time_in_which_the_api_was_stopped_does_not_count(stall, clock):
    stall.look(7)
    clock.now += 3600
    stall.look(7)
    assert stall.seconds == 0


def test_a_queue_that_cant_be_opened_is_counted_over_all_attempts(stall, clock):
    stall.opening_failed()
    clock.now += 5
    stall.opening_failed()
    clock.now += 6
    assert (stall.seconds, stall.reason) == (11, "the queue can't be opened")
    stall.opened()
    assert stall.seconds == 0


def test_a_broker_that_takes_no_connection_is_no_fault_of_the_queue(stall, clock):
    stall.look(3)
    stall.opening_failed()
    clock.now += 60
    stall.away()
    assert stall.seconds == 0


def sign(seconds, ago=0.5):
    facts = {STALL_FACT: {"seconds": seconds, "reason": "no confirm of an envelope"}}
    return Sign("api", 1, 9, ago, "ready", "", facts)


def test_the_probe_heeds_an_api_that_has_waited_for_long():
    assert probe.stalled([sign(9), sign(12)]) == (
        "the queue of messages: no confirm of an envelope for 12 s"
    )
    assert probe.stalled([sign(9)]) == ""
    assert probe.stalled([sign(12, ago=60)]) == ""
    assert probe.stalled([Sign("api", 1, 9, 0.5, "ready", "")]) == ""
