"""Which pulses mean that a process hangs."""

import pytest

from appliance.machine.signs import Sign
from appliance.supervision.hangs import Hangs

LIMIT = 30.0
TICK = 5.0
OWN = 1


class Seen:
    """Plays the processes: what they say at each look, five seconds apart."""

    def __init__(self):
        self.hangs = Hangs(LIMIT, own_pid=OWN)
        self.now = 1000.0
        self.beats = {OWN: 1, 7: 1, 8: 1}
        self.state = dict.fromkeys(self.beats, "ready")

    def look(self, *still: int, after: float = TICK) -> list[int]:
        self.now += after
        for pid in self.beats:
            self.beats[pid] += pid not in still
        signs = [Sign("worker", p, n, 0, self.state[p], "") for p, n in self.beats.items()]
        return [sign.pid for sign in self.hangs.look(self.now, signs)]


@pytest.fixture
def seen():
    made = Seen()
    made.look()
    return made


def test_a_pulse_that_stands_still_past_the_limit_is_a_hang(seen):
    for _ in range(5):
        assert seen.look(7) == []
    assert seen.look(7) == [7]


def test_a_pulse_that_moves_now_and_then_is_none(seen):
    for _ in range(20):
        assert seen.look(7, 8) == []
        assert seen.look(7, 8) == []
        assert seen.look() == []


def test_time_in_which_the_looker_was_not_there_counts_little(seen):
    assert seen.look(7, 8, after=3600) == []
    assert seen.look() == []


def test_no_process_hangs_where_our_own_pulse_can_not_be_written(seen):
    for _ in range(20):
        assert seen.look(OWN, 7, 8) == []
    assert seen.look(7, 8) == []


def test_a_process_that_never_beat_has_longer(seen):
    seen.beats[9], seen.state[9] = 0, "starting"
    found = [seen.look(9) for _ in range(19)]
    assert found == [[]] * 18 + [[9]]


def test_a_process_that_ends_does_not_hang(seen):
    seen.state[7] = "stopping"
    assert [seen.look(7) for _ in range(20)] == [[]] * 20


def test_a_new_process_with_an_old_pid_begins_anew(seen):
    for _ in range(5):
        seen.look(7)
    del seen.beats[7]
    seen.look()
    seen.beats[7] = 5
    assert [seen.look(7) for _ in range(6)] == [[]] * 6
