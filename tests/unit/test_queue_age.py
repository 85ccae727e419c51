"""The age of the oldest envelope in the queue follows from what was confirmed when."""

from appliance.broker.publish.queue_age import QueueAge


def fill(age, seconds, depth=0, confirmed=0, *, arrive=0, leave=0):
    for now in seconds:
        confirmed += arrive
        depth += arrive - leave
        age.note(float(now), depth, confirmed)
    return depth, confirmed


def test_queue_that_is_empty_has_no_age():
    age = QueueAge(0.0)
    assert age.seconds(100.0) == 0.0
    fill(age, range(1, 50), arrive=10, leave=10)
    assert age.seconds(50.0) == 0.0


def test_queue_that_nobody_takes_from_ages_with_the_clock():
    age = QueueAge(0.0)
    depth, confirmed = fill(age, range(1, 101), arrive=10, leave=10)
    fill(age, range(101, 161), depth, confirmed, arrive=10)
    assert 59 <= age.seconds(160.0) <= 60
    assert 69 <= age.seconds(170.0) <= 70


def test_queue_that_drains_has_the_age_of_what_is_left():
    age = QueueAge(0.0)
    depth, confirmed = fill(age, range(1, 101), arrive=10)
    assert depth == 1000
    fill(age, range(101, 151), depth, confirmed, arrive=10, leave=20)
    assert 48 <= age.seconds(150.0) <= 51


def test_envelopes_of_others_are_no_older_than_the_queue_was_empty():
    age = QueueAge(0.0)
    fill(age, range(1, 101))
    age.note(101.0, 5, 0)
    assert age.seconds(102.0) == 2.0


def test_queue_that_was_deep_before_the_start_is_as_old_as_the_start():
    age = QueueAge(50.0)
    age.note(51.0, 1000, 3)
    assert age.seconds(60.0) == 10.0


def test_notes_of_days_stay_few():
    age = QueueAge(0.0)
    fill(age, range(1, 100_000), arrive=1)
    assert len(age._notes) < 5000
    assert age.seconds(100_000.0) > 99_000
