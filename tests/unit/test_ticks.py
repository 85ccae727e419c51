"""Ticks: when chores wake together."""

import asyncio

import pytest

from appliance.machine.ticks import tick, until_tick


@pytest.mark.parametrize(
    ("now", "left"),
    [(0.0, 0.5), (10.0, 0.5), (10.2, 0.3), (10.4, 0.1), (10.46, 0.54), (10.499, 0.501)],
)
def test_tick_is_the_next_multiple_that_is_not_already_there(now, left):
    assert until_tick(0.5, now) == pytest.approx(left)


@pytest.mark.parametrize("late", [-0.001, 0.0, 0.04])
def test_chore_that_wakes_a_little_early_or_late_wakes_once_in_each_period(late):
    now, woken = 100.0, []
    for _ in range(10):
        now += until_tick(0.5, now) + late
        woken.append(now)
    assert woken == pytest.approx([100.5 + 0.5 * n + late for n in range(10)])


def test_chore_of_an_event_loop_wakes_at_a_tick():
    async def slept():
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await tick(0.2)
        return begun + until_tick(0.2, begun), loop.time()

    due, woken = asyncio.run(slept())
    assert woken >= due - 0.01
