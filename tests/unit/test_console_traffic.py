"""Bars of the overview: how much was stored in each step, without counting a row."""

import pytest

from appliance.console.traffic import SPANS, traffic
from appliance.model.timestamps import timestamp

NOW = 1_800_000_000.0


class Marks:
    """A reader of messages that came at these Unix times, in order."""

    def __init__(self, times):
        self._times = [timestamp(each) for each in times]

    def marks(self, times):
        return [sum(each < time for each in self._times) for time in times]


@pytest.mark.parametrize("span", SPANS)
def test_each_message_of_a_span_is_in_one_bar(span):
    seconds, step = SPANS[span]
    times = [NOW - seconds * 2, *(NOW - each for each in range(0, seconds - step, step))]
    shown = traffic(Marks(sorted(times)), span, NOW)
    assert len(shown.bars) == seconds // step
    assert shown.total == len(times) - 1
    assert [bar.messages for bar in shown.bars[1:]] == [1] * (len(shown.bars) - 1)
    assert {bar.height for bar in shown.bars if bar.messages} == {100.0}
    assert shown.bars[-1].x < 100


def test_the_highest_bar_fills_the_picture_and_none_is_below_it():
    shown = traffic(Marks([NOW - 100] * 4 + [NOW - 50] * 2), "15m", NOW)
    assert sorted({bar.height for bar in shown.bars}) == [0, 50, 100]
    assert shown.most == 4
    empty = traffic(Marks([]), "15m", NOW)
    assert (empty.total, empty.most, {bar.height for bar in empty.bars}) == (0, 0, {0})


def test_a_span_that_is_none_is_an_hour():
    assert traffic(Marks([]), "<b>", NOW).span == "1h"
