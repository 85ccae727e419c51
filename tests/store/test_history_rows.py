"""The history of each minute: kept, added up where a minute comes in parts, and bounded."""

import itertools

import pytest

from appliance.model.history_points import HistoryPoint
from appliance.store.sql import history_table

MINUTE = 1_800_000_000
FULL = HistoryPoint(MINUTE, 60.0, 100, 90, 3, 2, 7, 1.5, 0.004, 0.009, 10**12)


def test_a_minute_is_read_as_it_was_kept(store):
    assert store.history.points(0, 2**40, 60) == []
    unknown = HistoryPoint(MINUTE + 60, 20.5)
    for point in (unknown, FULL):
        store.history.add(point)
    assert store.history.points(MINUTE, MINUTE + 120, 60) == [FULL, unknown]
    assert store.history.points(MINUTE, MINUTE + 60, 60) == [FULL]
    assert store.history.points(MINUTE + 1, MINUTE + 60, 60) == []


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_minute_that_comes_in_parts_is_one(store, order):
    """The janitor was restarted within it."""
    parts = [
        HistoryPoint(MINUTE, 20.0, 10, 9, 1, 0, None, 2.0, None, None, 500),
        HistoryPoint(MINUTE, 30.0, 5, 6, 0, 1, 4, None, 0.5, 0.6, 400),
        HistoryPoint(MINUTE, 5.0, 1, 1, 0, 0, 9, 1.0, 0.7, 0.3, None),
    ]
    for place in order:
        store.history.add(parts[place])
    whole = HistoryPoint(MINUTE, 55.0, 16, 16, 1, 1, 9, 2.0, 0.7, 0.6, 400)
    assert store.history.points(0, 2**40, 60) == [whole]


def test_longer_steps_hold_their_minutes_and_a_gap_stays_one(store):
    minutes = [0, 1, 4, 20, 21]
    for place, minute in enumerate(minutes, 1):
        point = HistoryPoint(
            MINUTE + 60 * minute, 60.0, place, place, 0, 0, place, disk_free_bytes=place
        )
        store.history.add(point)
    assert store.history.points(MINUTE, MINUTE + 7200, 300) == [
        HistoryPoint(MINUTE, 180.0, 6, 6, 0, 0, 3, disk_free_bytes=1),
        HistoryPoint(MINUTE + 1200, 120.0, 9, 9, 0, 0, 5, disk_free_bytes=4),
    ]


def test_the_oldest_minutes_go_whatever_the_clock_says(store, monkeypatch):
    monkeypatch.setattr(history_table, "MAX_MINUTES", 3)
    for minute in (5, 1, 2, 3, 4):
        store.history.add(FULL._replace(at=MINUTE + 60 * minute))
    kept = [(each.at - MINUTE) // 60 for each in store.history.points(0, 2**40, 60)]
    assert kept == [3, 4, 5]
    store.history.add(FULL._replace(at=60))  # a clock that begins in 1970 drives out nothing
    assert len(store.history.points(61, 2**40, 60)) == 3
