"""The history: recorded from the numbers of all processes, told with its gaps, and a forecast."""

import contextlib
import os
import random

import pytest
import ready_made
from flask_app import app_of
from harness import wait_until

from appliance import config as configuration
from appliance.auth.principal import Principal, Right
from appliance.errors import InputError
from appliance.history import recent_seconds as recent
from appliance.history import recorder
from appliance.history.chronicle import MOST_POINTS, Chronicler, parse_history_span
from appliance.history.recorder import HistoryRecorder
from appliance.metrics import board, series
from appliance.metrics.board import Numbers
from appliance.model.forecast import full_in
from appliance.model.history_points import HistoryPoint, combined, in_steps, quantiles
from appliance.model.tallies import BOUNDS, PublishTally, StoreTally, StreamTally
from appliance.model.timestamps import EPOCH, seconds_between
from appliance.store import open_store
from appliance.store.sqlite.database import connect

NOW = 1_800_000_000 + 600.25  # a quarter of a second into a minute
DAY = 86_400


@pytest.fixture
def config(tmp_path):
    return configuration.load({"APPLIANCE_DATA": str(tmp_path), "APPLIANCE_MIN_FREE_BYTES": "0"})


@pytest.fixture
def store(config):
    store = open_store(config)
    ready_made.migrate(store.path)
    yield store
    store.reader.close()


class Life:
    """A recorder, its clock, and processes that live for one look and leave their counters."""

    def __init__(self, config, store):
        self._config, self._store = config, store
        self.now, self.clock = NOW, 500.0
        self.recorder = HistoryRecorder(config, store.history)

    def look(self, seconds=1.0, accepted=0, stored=0, took=0.004, waiting=0, refused=0):
        """Let time go by and messages come, then look."""
        self.now += seconds
        self.clock += seconds
        publishing, storing = PublishTally(), StoreTally()
        publishing.accepted, storing.stored = accepted, stored
        if stored:
            storing.lag.observe(took, stored)
        api = series.of_api(
            publishing, {"forbidden": refused, "not-found": 3}, StreamTally(), 0.5, waiting
        )
        with (
            board.shown(self._config, "api", lambda: api),
            board.shown(self._config, "worker", lambda: series.of_worker(storing, 0.0)),
        ):
            self.recorder.look(self.now, self.clock)

    def minutes(self):
        return self._store.history.points(0, 2**40, 60)

    def seconds(self):
        return recent.recent_seconds(self._config, self.now)


@pytest.fixture
def life(config, store):
    return Life(config, store)


# --- recorded


def test_messages_before_the_first_look_are_of_no_minute(life):
    life.look(accepted=1000, stored=1000)
    life.look(accepted=5, stored=4, waiting=1, refused=2)
    life.recorder.close()
    (minute,) = life.minutes()
    assert minute[:6] == (NOW // 60 * 60, 1.0, 5, 4, 2, 0)
    assert (minute.waiting, minute.oldest_seconds) == (1, 0.5)
    assert 0.0025 < minute.p50_seconds < minute.p99_seconds < 0.005
    assert minute.disk_free_bytes > 0


def test_a_minute_is_kept_when_it_is_over_and_a_second_at_once(life):
    life.look()
    for place in range(58):
        life.look(accepted=1, stored=1, took=3.0 if place == 0 else 0.004, waiting=place)
        assert life.seconds()[-1].at == int(life.now)
    assert life.minutes() == []
    life.look(2.0, accepted=7, stored=7)  # the look that finds the next minute begun
    (minute,) = life.minutes()
    assert (minute.at, minute.seconds, minute.accepted, minute.waiting) == (
        NOW // 60 * 60, 58.0, 58, 57,
    )  # fmt: skip
    assert minute.p99_seconds > 2.5 > 0.005 > minute.p50_seconds
    assert len(life.seconds()) == 59
    assert sum(each.accepted for each in life.seconds()) == 65


def test_a_restart_of_the_recorder_leaves_a_gap_and_counts_nothing_twice(life, config, store):
    life.look()
    life.look(accepted=3, stored=3)
    life.recorder.close()
    life.recorder = HistoryRecorder(config, store.history)
    life.look(3.0, accepted=100, stored=100)  # while none looked
    life.look(accepted=4, stored=4)
    life.recorder.close()
    (minute,) = life.minutes()
    assert (minute.seconds, minute.accepted) == (2.0, 7)


def test_a_killed_recorder_leaves_its_seconds_to_the_next_one(life, config, store):
    life.look()
    life.look(accepted=3, stored=3)
    life.look(60.0, accepted=4, stored=4)  # in the next minute; the first one is kept
    life.recorder = HistoryRecorder(config, store.history)
    for _ in range(2):
        life.recorder.recover(life.now)
    life.look(accepted=100)
    life.look(accepted=5)
    life.recorder.close()
    assert [each.accepted for each in life.minutes()] == [3, 4 + 5]


def test_a_pause_of_the_machine_is_a_gap(life):
    life.look()
    life.look(accepted=1)
    life.look(3600.0, accepted=1000)
    life.look(accepted=2)
    life.recorder.close()
    assert [(each.at - NOW // 60 * 60, each.accepted) for each in life.minutes()] == [
        (0, 1), (3600, 2),
    ]  # fmt: skip


def test_counters_that_begin_anew_are_counted_from_nothing(life, config):
    life.look(accepted=50, stored=50)
    for path in (config.run_folder / "metrics").iterdir():
        path.unlink()  # as in a new container
    life.look(accepted=3, stored=2)
    life.recorder.close()
    (minute,) = life.minutes()
    assert (minute.accepted, minute.stored) == (3, 2)
    assert minute.p99_seconds < 0.005


def test_minutes_wait_while_the_database_cannot_be_written_to(life, store):
    blocker = connect(store.path, readonly=False)
    blocker.execute("BEGIN IMMEDIATE")
    life.look()
    life.look(accepted=1)
    life.look(60.0, accepted=2)
    assert life.minutes() == []
    blocker.execute("ROLLBACK")
    blocker.close()
    life.look(60.0, accepted=4)
    assert [each.accepted for each in life.minutes()] == [1, 2]


def test_numbers_that_cannot_be_read_are_in_the_next_second(life, config):
    life.look()
    lock = config.run_folder / "metrics" / "lock"
    lock.unlink()
    lock.mkdir()
    life.recorder.look(life.now + 1, life.clock + 1)
    lock.rmdir()
    life.look(2.0, accepted=6)
    assert [(each.seconds, each.accepted) for each in life.seconds()] == [(2.0, 6)]


def test_a_running_recorder_keeps_the_minute_that_it_is_ended_in(config, store):
    with board.shown(config, "api", lambda: Numbers({"messages_accepted_total": 1})):
        with recorder.recording(config, store.history):
            wait_until(lambda: recent.path(config).exists(), "a second was kept", 30)
        kept = store.history.points(0, 2**40, 60)
    assert 1 <= len(kept) <= 2
    assert sum(each.seconds for each in kept) > 0


# --- the latest seconds


def test_seconds_are_kept_for_a_quarter_of_an_hour(config):
    file = recent.RecentSeconds(config)
    for at in range(1000):
        file.write(HistoryPoint(int(NOW) + at, 1.0, at, waiting=None, disk_free_bytes=2**50 + at))
    file.close()
    kept = recent.recent_seconds(config, NOW + 999)
    assert [each.accepted for each in kept] == list(range(100, 1000))
    assert kept[0] == HistoryPoint(int(NOW) + 100, 1.0, 100, disk_free_bytes=2**50 + 100)
    assert len(recent.recent_seconds(config, NOW + 1100)) == 800 - 1
    # A clock that was set back has what it shows as the future, which is not shown.
    assert recent.recent_seconds(config, NOW - 5000) == []


@pytest.mark.parametrize("content", [b"", b"\0" * 5000, b"\xff" * 200_000, b"x", os.urandom(9999)])
def test_a_file_of_seconds_that_holds_anything_else_is_none(config, content):
    config.run_folder.mkdir(parents=True)
    recent.path(config).write_bytes(content)
    assert recent.recent_seconds(config, NOW) == []


def test_a_second_that_is_half_written_is_left_out(config):
    file = recent.RecentSeconds(config)
    file.write(HistoryPoint(int(NOW), 1.0, 5))
    file.write(HistoryPoint(int(NOW) + 1, 1.0, 6))
    file.close()
    place = int(NOW) % 900 * 128
    with recent.path(config).open("r+b") as opened:
        opened.seek(place + 16)
        opened.write(b"\x07")
    assert [each.accepted for each in recent.recent_seconds(config, NOW + 2)] == [6]


def test_a_minute_that_went_on_after_a_restart_is_told_whole(store, config):
    minute = int(NOW) // 60 * 60
    store.history.add(HistoryPoint(minute, 10.0, 10))
    file = recent.RecentSeconds(config)
    for at in range(minute, minute + 30):
        file.write(HistoryPoint(at, 1.0, 1))
    file.close()
    (point,) = Chronicler(config, store.history, lambda: minute + 30.5).of(3600).points
    assert point.accepted == 30


# --- told


@pytest.fixture
def told(config, store):
    """Returns the history of a span, as it is told at a time."""

    def told(span, step=None, now=NOW):
        return Chronicler(config, store.history, lambda: now).of(span, step)

    return told


def test_a_quarter_of_an_hour_is_told_in_seconds_and_in_minutes_before_them(store, told, config):
    minute = int(NOW) // 60 * 60
    for back in (16, 14, 13, 2, 1):
        store.history.add(HistoryPoint(minute - 60 * back, 60.0, 60))
    file = recent.RecentSeconds(config)
    for back in range(100, -1, -1):  # from 100 seconds ago
        file.write(HistoryPoint(int(NOW) - back, 1.0, 1))
    file.close()
    found = told(900)
    assert found.step == 1
    assert found.until - found.since == 901
    assert [each.seconds for each in found.points] == [60.0] * 2 + [1.0] * 101
    assert sum(each.accepted for each in found.points) == 221


def test_longer_spans_are_told_in_minutes_and_the_one_that_is_not_over_yet(store, told, config):
    minute = int(NOW) // 60 * 60
    for back in (50, 3, 2, 1):
        store.history.add(HistoryPoint(minute - 60 * back, 60.0, 60))
    file = recent.RecentSeconds(config)
    for at in range(minute - 130, minute + 40):
        file.write(HistoryPoint(at, 1.0, 1))
    file.close()
    points = told(3600, now=minute + 39.5).points
    assert [((each.at - minute) // 60, each.accepted) for each in points] == [
        (-50, 60), (-3, 60), (-2, 60), (-1, 60), (0, 40),
    ]  # fmt: skip
    # The minute that is over is in the database a moment later.
    points = told(3600, now=minute + 60.5).points
    assert [((each.at - minute) // 60, each.accepted) for each in points][-2:] == [
        (-1, 60), (0, 40),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "step"),
    [("1m", 1), ("15m", 1), ("16m", 60), (None, 60), ("24h", 60), ("25h", 60), ("26h", 300),
     ("5d", 300), ("6d", 1200), ("2w", 1200)],
)  # fmt: skip
def test_a_span_is_told_in_the_narrowest_step_that_is_in_bounds(told, text, step):
    span = parse_history_span(text)
    found = told(span)
    assert found.step == step
    assert span / step <= MOST_POINTS


@pytest.mark.parametrize(
    "text", ["", "59s", "0m", "15d", "-1h", "1", "1h ", "\u0661h", "1y", "9" * 99]
)
def test_a_span_that_is_none_is_refused_in_words(text):
    with pytest.raises(InputError, match="span"):
        parse_history_span(text)


def test_two_weeks_of_minutes_are_told_within_the_bound(store, told):
    minute = int(NOW) // 60 * 60
    with contextlib.closing(connect(store.path, readonly=False)) as link:
        link.execute("BEGIN")
        link.executemany(
            "INSERT INTO history (at, seconds, accepted, stored, refused, dead) "
            "VALUES (?, 60, 1, 1, 0, 0)",
            [(minute - 60 * back,) for back in range(14 * 24 * 60)],
        )
        link.execute("COMMIT")
    found = told(14 * DAY)
    assert len(found.points) in (1008, 1009)
    assert sum(each.accepted for each in found.points) in range(14 * 24 * 60 - 20, 14 * 24 * 60 + 1)
    assert len(told(DAY).points) in (1440, 1441)


def test_the_call_tells_a_point_with_its_time_and_null_for_what_is_not_known(config, store):
    store.history.add(HistoryPoint(int(NOW) // 60 * 60 - 120, 60.0, 5))
    app = app_of(config, chronicler=Chronicler(config, store.history, lambda: NOW))
    answer = app.test_client().get("/v1/history")
    assert answer.status_code == 200
    assert answer.json["step_seconds"] == 60
    assert answer.json["points"] == [
        {
            "at": "2027-01-15T08:08:00.000Z", "seconds": 60.0, "accepted": 5, "stored": 0,
            "refused": 0, "dead": 0, "waiting": None, "oldest_seconds": None, "p50_seconds": None,
            "p99_seconds": None, "disk_free_bytes": None,
        }
    ]  # fmt: skip
    for query in ("?span=15d", "?span=", "?span=1h&span=2h", "?since=1h"):
        assert app.test_client().get(f"/v1/history{query}").status_code == 400, query


def test_the_history_is_refused_to_whom_may_read_some_topics_only(config, store):
    some = Principal("some", frozenset({Right.READ}), ("orders.*",))
    answer = app_of(config).test_client().get(
        "/v1/history", environ_overrides={"appliance.principal": some}
    )  # fmt: skip
    assert answer.status_code == 403


# --- foretold


def test_a_disk_that_fills_up_evenly_is_full_when_its_floor_is_reached():
    points = [(at * 1200.0, 1e9 - at * 1e6) for at in range(73)]
    assert full_in(points, 5e8) == pytest.approx((1e9 - 72e6 - 5e8) / 1e6 * 1200)
    assert full_in(points, 2e9) == 0.0


@pytest.mark.parametrize(
    "free",
    [
        [1e9] * 73,
        [1e9 + at for at in range(73)],
        [1e12 - at for at in range(73)],  # in a million years
        [1e9 - at * 1e6 for at in range(5)],  # too few
    ],
)
def test_nothing_is_foretold_where_nothing_falls_or_too_little_is_known(free):
    assert full_in([(at * 1200.0, each) for at, each in enumerate(free)], 0) is None
    assert full_in([], 0) is None


def test_a_backup_that_comes_and_goes_does_not_bend_the_forecast():
    chance = random.Random(5)
    points = []
    for at in range(73):
        free = 1e9 - at * 1e6 + chance.uniform(-1e5, 1e5)
        points.append((at * 1200.0, free - (2e8 if 40 <= at < 50 else 0)))
    assert full_in(points, 5e8) == pytest.approx((1e9 - 72e6 - 5e8) / 1e6 * 1200, rel=0.1)


def test_the_status_and_the_metrics_say_when_the_disk_is_full(config, store, monkeypatch):
    chronicler = Chronicler(config, store.history)
    app = app_of(config, chronicler=chronicler)

    def asked():
        disk = app.test_client().get("/v1/status").json["disk"]
        text = app.test_client().get("/metrics").text
        return disk["full_at"], 'appliance_disk_full_timestamp_seconds{disk="data"} ' in text

    assert asked() == (None, False)
    stat = os.statvfs(config.data)
    free, now = stat.f_bavail * stat.f_frsize, chronicler._clock()
    for back in range(72):
        lost = (72 - back) / 72 * free
        point = HistoryPoint(int(now) - 1200 * (72 - back), 60.0, disk_free_bytes=int(free + lost))
        store.history.add(point)
    assert asked() == (None, False)  # what was found a moment ago holds for a minute
    monkeypatch.setattr(chronicler, "_forecast", None)
    full_at, is_metric = asked()
    assert is_metric
    assert 0.9 * DAY < seconds_between(EPOCH, full_at) - now < 1.1 * DAY


# --- arithmetic


def test_points_together_add_counts_and_keep_the_worst():
    one = HistoryPoint(5, 1.0, 1, 2, 3, 4, 5, None, 0.1, 0.2, 900)
    other = HistoryPoint(6, 1.0, 1, 1, 1, 1, 4, 2.5, None, 0.3, 800)
    assert combined(0, [one, other]) == HistoryPoint(0, 2.0, 2, 3, 4, 5, 5, 2.5, 0.1, 0.3, 800)
    assert in_steps([one, other, other._replace(at=12)], 10) == [
        combined(0, [one, other]), other._replace(at=10),
    ]  # fmt: skip


def test_quantiles_are_within_their_buckets():
    counts = [0.0] * (len(BOUNDS) + 1)
    assert quantiles(counts) == (None, None)
    counts[3] = 10  # between 5 and 10 ms
    half, most = quantiles(counts)
    assert 0.005 < half < most <= 0.01
    counts[-1] = 1000
    assert quantiles(counts) == (BOUNDS[-1], BOUNDS[-1])
