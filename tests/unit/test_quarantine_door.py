"""The door of the quarantine: nobody gets more in than their share."""

import pytest

from appliance import config as configuration
from appliance.api.quarantine.door import QuarantineDoor
from appliance.errors import QuarantineFullError

MIB = 2**20


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def door(clock):
    settings = {"APPLIANCE_QUARANTINE_BYTES": "8MiB", "APPLIANCE_QUARANTINE_RATE": "60"}
    return QuarantineDoor(configuration.load(settings), clock)


def let_in(door, source, size=10, letters=1, tries=1000):
    """Return how many go in, one after another."""
    count = 0
    for _ in range(tries):
        try:
            door.admit(source, letters, size)
        except QuarantineFullError:
            break
        count += 1
    return count


def test_a_door_lets_as_many_in_as_the_rate_says_and_then_one_a_second(door, clock):
    assert let_in(door, "inbox a") == 60
    clock.now += 1
    assert let_in(door, "inbox a") == 1
    clock.now += 3600
    assert let_in(door, "inbox a") == 60
    assert (door.kept, door.refused) == (121, 3)


def test_a_door_that_is_shut_for_one_is_open_for_the_others(door):
    assert let_in(door, "inbox a") == 60
    assert let_in(door, "inbox b") == 60


def test_one_source_gets_a_quarter_of_the_bytes_in_a_minute_and_all_together_all(door, clock):
    assert let_in(door, "inbox a", MIB) == 2
    assert sum(let_in(door, f"inbox {n}", MIB) for n in range(9)) == 6
    clock.now += 60
    assert let_in(door, "inbox a", MIB) == 2


def test_a_body_larger_than_its_share_gets_in_when_nothing_else_did(door, clock):
    assert let_in(door, "inbox a", 6 * MIB) == 1
    clock.now += 30
    assert let_in(door, "inbox a", 6 * MIB) == 0


def test_a_batch_counts_each_of_its_letters(door):
    assert let_in(door, "topic t", letters=50) == 1
    assert let_in(door, "topic t") == 10
