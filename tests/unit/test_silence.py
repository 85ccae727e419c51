"""When a node that says nothing is asked and left, and when another node is tried."""

import pytest

from appliance.broker import silence
from appliance.broker.publish.doubt import Doubt
from appliance.broker.silence import Silence


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def pass_time(clock, look, seconds, step=0.4):
    for _ in range(round(seconds / step)):
        clock.now += step
        last = look()
    return last


def test_a_node_that_says_nothing_is_asked_and_then_left(clock):
    silent = Silence(clock)
    assert silent.look(10) == 0
    seconds = pass_time(clock, lambda: silent.look(10), 1.2)
    assert silence.is_worth_asking(seconds)
    assert not silence.is_worth_leaving(seconds, blocked=False)
    seconds = pass_time(clock, lambda: silent.look(10), 3.2)
    assert silence.is_worth_leaving(seconds, blocked=False)


def test_a_node_with_an_alarm_has_until_its_heartbeats_come(clock):
    silent = Silence(clock)
    silent.look(10)
    seconds = pass_time(clock, lambda: silent.look(10), 5.2)
    assert not silence.is_worth_leaving(seconds, blocked=True)
    seconds = pass_time(clock, lambda: silent.look(10), 2.8)
    assert silence.is_worth_leaving(seconds, blocked=True)


def test_a_byte_ends_a_silence(clock):
    silent = Silence(clock)
    silent.look(10)
    pass_time(clock, lambda: silent.look(10), 3.6)
    assert silent.look(11) == 0


def test_time_in_which_this_process_was_stopped_is_no_silence(clock):
    silent = Silence(clock)
    silent.look(10)
    clock.now += 3600
    assert silent.look(10) == pytest.approx(0)
    assert pass_time(clock, lambda: silent.look(10), 1.2) == pytest.approx(1.2)


def test_a_publisher_doubts_from_the_first_that_waits_until_an_answer(clock):
    doubt = Doubt(clock)
    doubt.look(5, waiting=False)
    clock.now += 10
    doubt.look(5, waiting=False)
    assert doubt.seconds == 0
    doubt.look(5, waiting=True)
    clock.now += 2.5
    doubt.look(5, waiting=True)
    assert doubt.seconds == 2.5
    doubt.look(6, waiting=True)
    assert doubt.seconds == 0


def test_a_doubt_outlasts_those_who_waited_and_ends_when_the_leader_answers(clock):
    doubt = Doubt(clock)
    doubt.look(0, waiting=True)
    clock.now += 6
    doubt.look(0, waiting=False)  # answered 503, and the load balancer asks others
    assert doubt.seconds == 6
    doubt.reached()
    assert doubt.seconds == 0
